"""What runs on this machine, read from /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def mentioning(*paths: Path) -> dict[int, str]:
    """Pid -> command line of every process (but us and our ancestors) whose command line, environment or working
    directory names one of `paths`. A zombie has none of these: see `children`."""
    wanted = [os.fsencode(path) for path in paths]
    found = {}
    for pid in _pids() - _ancestry():
        folder = Path(f"/proc/{pid}")
        try:
            command = (folder / "cmdline").read_bytes()
            told = [command, (folder / "environ").read_bytes(), os.fsencode(os.readlink(folder / "cwd"))]
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
        if any(path in text for path in wanted for text in told):
            found[pid] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def children() -> dict[int, str]:
    """Pid -> name and state of our own direct children, zombies too."""
    found = {}
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            pids = task.read_text().split()
        except OSError:  # the thread ended
            continue
        for pid in map(int, pids):
            name, state, _ = _stat(pid)
            if name:
                found[pid] = f"{name} ({state})"
    return found


def alive(pid: int) -> bool:
    return _stat(pid)[1] not in ("", "Z", "X")


def started_at(pid: int) -> str:
    """Tells two processes with the same pid apart; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def until(condition: Callable[[], T], what: str, *, within_s: float = 30.0) -> T:
    """The first true value of `condition`, which is asked again and again. AssertionError: none came."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


def _pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdecimal()}


def _ancestry() -> set[int]:
    pid, found = os.getpid(), set[int]()
    while pid > 0 and pid not in found:
        found.add(pid)
        pid = _stat(pid)[2]
    return found


def _stat(pid: int) -> tuple[str, str, int]:
    """Name, state letter and parent; empty when there is no such process."""
    try:
        head, _, tail = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return "", "", 0
    fields = tail.split()
    return head.partition("(")[2], fields[0], int(fields[1])
