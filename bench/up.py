"""From the command to the first 200: `shoal up`, with control plane and proxy, against a server that is started bare,
and against honcho, which starts what a Procfile names. All were started before: environments and .pyc are there.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from tests.support.plane import Plane, plane
from tests.support.port import free_port

from bench.apps import RAW_ASGI, temporary_folder
from bench.packages import programs
from bench.processes import process
from bench.result import Measure, Result, Spread

TARGET_FACTOR, TARGET_S = 2.0, 0.5
UP_S_MAX = 30.0


def run(quick: bool) -> Result:
    """RuntimeError: something did not come up."""
    times = 2 if quick else 9
    with temporary_folder() as folder:
        port = free_port()
        files = {
            "raw.py": RAW_ASGI,
            "shoal.yaml": f"app: up\nservices:\n  raw: {{run: raw:app, port: {port}}}\n",
        }
        with plane(folder / "app", files=files, quiet=True) as shoal:
            bare = [
                programs() / "granian",
                "--interface",
                "asgi",
                "--port",
                str(port),
                "--log-level",
                "error",
                "raw:app",
            ]
            (shoal.folder / "Procfile").write_text("web: exec " + " ".join(map(str, bare)) + "\n")
            starts: dict[str, Callable[[], float]] = {
                "Shoal": partial(_shoal, shoal, port),
                "bare granian": partial(_other, bare, shoal.folder, port),
                "honcho": partial(_other, [programs() / "honcho", "start"], shoal.folder, port),
            }
            found: dict[str, list[float]] = {name: [] for name in starts}
            failed: dict[str, str] = {}
            for turn in range(times + 1):  # the first is not counted
                for name in list(found):
                    try:
                        elapsed = starts[name]()
                    except (RuntimeError, OSError) as error:
                        if name == "Shoal":
                            raise
                        failed[name] = f"failed: {error}"
                        del found[name]
                        continue
                    if turn:
                        found[name].append(elapsed)
    spreads = {name: Spread.of(values) for name, values in found.items()}
    ours = spreads.pop("Shoal")
    granian = spreads.get("bare granian")
    measure = Measure(
        what="up: from the command to the first 200",
        unit="s",
        ours=ours,
        peers=spreads | failed,
        target=f"at most {TARGET_FACTOR:g} x bare granian + {TARGET_S:g} s",
        met=ours.median <= TARGET_FACTOR * granian.median + TARGET_S if granian is not None else None,
    )
    return Result(name="up", title="Start", measures=[measure])


def _shoal(shoal: Plane, port: int) -> float:
    started = time.perf_counter()
    argv = [*shoal.command, "up"]
    output = subprocess.DEVNULL
    with subprocess.Popen(argv, cwd=shoal.folder, env=shoal.env(), stdin=output, stdout=output, stderr=output) as up:
        try:
            elapsed = _first_answer(port, started)
            shoal.note_shared_memory()
        finally:
            up.terminate()  # as Ctrl-C: takes the app down
    return elapsed


def _other(argv: list[Path | str], folder: Path, port: int) -> float:
    started = time.perf_counter()
    running: AbstractContextManager[object] = process(argv, folder=folder, env=dict(os.environ))
    with running:
        return _first_answer(port, started)


def _first_answer(port: int, started: float) -> float:
    while not _says_200(port):
        if time.perf_counter() - started > UP_S_MAX:
            raise RuntimeError(f"no answer within {UP_S_MAX:g} s")
        time.sleep(0.002)
    return time.perf_counter() - started


def _says_200(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            return connection.recv(16).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
