"""Processes of a benchmark: started, measured by the CPU time they took, and ended whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

START_S_MAX = 30.0
STOP_S_MAX = 5.0


@contextmanager
def process(
    argv: Sequence[str | Path], *, folder: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs in a session of its own; its output goes to a file in `folder`. Its whole group is ended at the end."""
    with (folder / f"{Path(argv[0]).name}.log").open("ab") as log:
        started = subprocess.Popen(
            [str(word) for word in argv],
            cwd=folder,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        end(started)


def end(started: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL to whatever of its group is left."""
    if started.poll() is None:
        started.terminate()
        try:
            started.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(started.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    started.wait()


def wait_until(condition: Callable[[], object], what: str, *, within_s: float = START_S_MAX) -> None:
    """RuntimeError: it did not come true."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within_s:g} s: {what}")
        time.sleep(0.005)


def family(pid: int) -> list[int]:
    """It and all its descendants."""
    found, front = [pid], [pid]
    while front:
        front = [child for parent in front for child in _children(parent)]
        found.extend(front)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.extend(map(int, task.read_text().split()))
        except OSError:  # the thread ended
            continue
    return found


def cpu_ns(pids: Iterable[int]) -> int:
    """User and system time of all their threads. `/proc/<pid>/schedstat` alone is of the first thread only."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except OSError:  # the thread ended
                continue
    return total


def prefer(pids: Iterable[int]) -> None:
    """As root: gives their sessions precedence over what else this machine does, which else is measured too. Linux
    groups processes by session (autogroup), and within these only `nice` counts."""
    for pid in pids:
        try:
            Path(f"/proc/{pid}/autogroup").write_text("-10")
        except OSError:  # not root, or a kernel without it
            return


def memory_kb(pid: int, key: str) -> int:
    """`Pss`, `Rss`, `Anonymous`, ... of smaps_rollup."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == key:
            return int(rest.split()[0])
    raise KeyError(key)
