"""Three processes of one small server, a port each, started and restarted by the bench as systemd would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from tests.support.port import free_port

from bench.apps import answers
from bench.processes import end, process, wait_until

REPLICAS = 3
RESTART_S = 0.1
"""systemd's RestartSec."""
SERVER = '''
"""Answers 200 after 2 ms, with its pid. SIGTERM: finishes what it has, and ends."""
import asyncio, os, signal, sys

HEAD = f"HTTP/1.1 200 OK\\r\\nx-pid: {os.getpid()}\\r\\ncontent-length: 3\\r\\n"
ending, idle = asyncio.Event(), set()

async def serve(reader, writer):
    try:
        while not ending.is_set():
            idle.add(writer)
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            idle.discard(writer)
            for line in head.lower().split(b"\\r\\n"):
                if line.startswith(b"content-length:"):
                    await reader.readexactly(int(line.split(b":")[1]))
            await asyncio.sleep(0.002)
            close = ending.is_set() or b"connection: close" in head.lower()
            writer.write((HEAD + ("connection: close\\r\\n" if close else "") + "\\r\\nok\\n").encode())
            await writer.drain()
            if close:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        idle.discard(writer)
        writer.close()

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]), backlog=1024)
    await ending.wait()
    server.close()
    for writer in list(idle):
        writer.close()
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.005)

asyncio.run(main())
'''


class Replicas:
    """Three servers that the bench starts, and keeps on their ports."""

    def __init__(self, folder: Path) -> None:
        self.ports = [free_port() for _ in range(REPLICAS)]
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start_all(self) -> None:
        self._running = [self._started(port) for port in self.ports]
        for port in self.ports:
            wait_until(partial(answers, port), f"the replica on port {port} answers")

    def pids(self) -> list[int]:
        return [running.pid for running in self._running]

    def heal(self, pid: int) -> None:
        index = self.pids().index(pid)
        self._running[index].wait(10)
        time.sleep(RESTART_S)
        self._running[index] = self._started(self.ports[index])

    def replace(self, index: int) -> None:
        """SIGTERM, its end, another one in its place, until it answers."""
        end(self._running[index])
        self._running[index] = self._started(self.ports[index])
        wait_until(partial(answers, self.ports[index]), "the new replica answers")

    def end_all(self) -> None:
        for running in self._running:
            try:
                os.kill(running.pid, signal.SIGCONT)  # one that is stopped takes no SIGTERM
            except ProcessLookupError:
                pass
            end(running)

    def _started(self, port: int) -> subprocess.Popen[bytes]:
        with (self._folder / "replicas.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, self._folder / "server.py"],
                env=os.environ | {"PORT": str(port)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def boot_and_stop_s(server: Path, folder: Path) -> float:
    """From the start of one replica alone to its first answer, and from SIGTERM to its end."""
    port, began = free_port(), time.monotonic()
    with process([sys.executable, server], folder=folder, env=os.environ | {"PORT": str(port)}) as running:
        wait_until(lambda: answers(port), "a replica answers")
        boot_s = time.monotonic() - began
        began = time.monotonic()
        running.terminate()
        running.wait(10)
    return boot_s + time.monotonic() - began
