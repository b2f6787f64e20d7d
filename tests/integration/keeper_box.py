"""A keeper of a test's own: started, watched, and gone afterwards with all it ran."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from shoal.engines.local.keeper.start import start_keeper
from shoal.engines.local.keeper_client import KeeperClient
from shoal.errors import EngineError
from shoal.paths import StateFolder

PATIENCE_S = 20.0
ENV = {"PATH": os.environ["PATH"]}


class Box:
    """One state folder and the keeper of the moment."""

    def __init__(self, state: StateFolder, daemon: Sequence[str]) -> None:
        self.state = state
        self.daemon = list(daemon)
        self.client: KeeperClient
        self.found: dict[str, dict[str, Any]] = {}
        """What the last attach told, by name."""
        self.seen: list[dict[str, Any]] = []
        """All events so far."""
        self._waiting: asyncio.Event = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts a keeper, or finds one, and attaches."""
        await asyncio.to_thread(start_keeper, self.state, self.daemon)
        await self.connect()

    async def connect(self) -> None:
        self.client = await KeeperClient.connect(self.state.keeper_socket)
        self.found = {p["name"]: p for p in await self.client.attach()}
        self._reader = asyncio.create_task(self._collect(self.client))

    async def _collect(self, client: KeeperClient) -> None:
        async for event in client.events():
            self.seen.append(event)
            self._waiting.set()

    async def event(self, kind: str, name: str, *, pid: int | None = None) -> dict[str, Any]:
        """The first event of that kind about that name (and process), past or coming."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                self._waiting.clear()
                for event in self.seen:
                    if event["event"] == kind and event["name"] == name and pid in (None, event["pid"]):
                        return event
                await self._waiting.wait()

    async def exited(self, name: str, *, pid: int | None = None) -> int | None:
        code: int | None = (await self.event("exited", name, pid=pid))["exit_code"]
        return code

    async def spawn(self, name: str, /, *argv: str, **fields: Any) -> int:
        request = {
            "name": name,
            "argv": list(argv),
            "env": ENV,
            "cwd": "/",
            "log": str(self.log_path(name)),
            "tag": {"test": name},
            "namespace": None,
        }
        answer = await self.client.call("spawn", **(request | fields))
        return int(answer["pid"])

    async def run(self, name: str, *argv: str, **fields: Any) -> list[str]:
        """Runs a command to its end; what it wrote, without stamps."""
        pid = await self.spawn(name, *argv, **fields)
        await self.exited(name, pid=pid)
        return self.lines(name)

    async def python(self, name: str, code: str, **fields: Any) -> int:
        return await self.spawn(name, sys.executable, "-I", "-S", "-u", "-c", code, **fields)

    def log_path(self, name: str) -> Path:
        return self.state.logs / f"{name}.log"

    def lines(self, name: str) -> list[str]:
        """Text of a log, oldest first, rotated part included."""
        texts: list[str] = []
        for path in (self.log_path(name).with_suffix(".log.1"), self.log_path(name)):
            if path.exists():
                content = path.read_bytes().decode("utf-8", "replace")
                texts += [line.split(" ", 1)[1] for line in content.split("\n")[:-1]]
        return texts

    async def lines_until(self, name: str, enough: Callable[[list[str]], bool]) -> list[str]:
        await until(lambda: enough(self.lines(name)), f"the log of {name}: {self.lines(name)[-3:]}")
        return self.lines(name)

    async def pid(self) -> int:
        return int((await self.client.call("hello"))["pid"])

    async def kill_keeper(self, number: int = signal.SIGKILL) -> None:
        """Ends the keeper and waits until its death is known here."""
        os.kill(await self.pid(), number)
        assert self._reader is not None
        await asyncio.wait_for(self._reader, PATIENCE_S)
        await self.client.close()

    async def end(self) -> None:
        """Ends all that runs, then the keeper; nothing but logs may be left."""
        await self._disconnect()
        await self.start()
        await self.client.call("shutdown")
        for name, process in self.found.items():
            if process["running"]:
                try:
                    await self.client.call("signal", name=name, signal=signal.SIGKILL, group=True)
                except EngineError as error:
                    print(error)  # it, or the keeper, has just ended
        assert self._reader is not None
        await asyncio.wait_for(self._reader, PATIENCE_S)
        await self._disconnect()
        await until(lambda: not self.state.run.exists(), f"{self.state.run} is left")
        assert not self.state.processes.exists()

    async def _disconnect(self) -> None:
        if hasattr(self, "client"):
            await self.client.close()
        if self._reader is not None:
            await asyncio.wait_for(self._reader, PATIENCE_S)


@asynccontextmanager
async def keeper_box(folder: Path, daemon: Sequence[str] = ()) -> AsyncIterator[Box]:
    box = Box(StateFolder.beside(folder), daemon)
    await box.start()
    try:
        yield box
    finally:
        box.daemon = []
        await box.end()


async def until(holds: Callable[[], bool], what: str = "") -> None:
    """Waits for something that sends no event."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for nothing: {what}"
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether there is such a process, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def ask(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    """Sends raw bytes to a keeper and gives back its answers until it hangs up or has answered each line."""
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(os.fspath(path))
        answers = b""
        try:
            for line in lines:
                connection.sendall(line)
            while answers.count(b"\n") < len(lines):
                part = connection.recv(65536)
                if not part:
                    break
                answers += part
        except (BrokenPipeError, ConnectionResetError):
            pass
    return [json.loads(line) for line in answers.splitlines()]
