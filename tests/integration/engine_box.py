"""A local engine with a keeper of its own, and services whose files the test writes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from shoal.engines.local import uv
from shoal.engines.local.engine import LocalEngine
from shoal.engines.local.keeper.start import start_keeper
from shoal.engines.local.keeper_client import KeeperClient
from shoal.model.app import App, Command, PythonApp, Service
from shoal.model.event import Event, ProbeFailed, ProbeSucceeded, ReplicaExited, ReplicaStarted
from shoal.model.replica import Exit, TcpAddress, UnixAddress
from shoal.model.topology import DENIED, Edge, EdgeMap
from shoal.model.world import Revision
from shoal.paths import StateFolder
from shoal.ports import Launch

PATIENCE_S = 30.0
DAEMON = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(10_000)"]
"""Stands for Shoal's own, which these tests are."""

E = TypeVar("E")
T = TypeVar("T")


class WallClock:
    def now(self) -> float:
        return time.time()


class Box:
    """Also the engine's inbox."""

    def __init__(self, state: StateFolder, folder: Path) -> None:
        self.state = state
        self.folder = folder
        self.events: list[Event] = []
        self.engine: LocalEngine
        self.proxy_argv: list[str] = ["/bin/sh", "-c", "echo proxy is up; exec sleep 1000"]
        self.services: list[Service] = []
        self.calls: dict[str, tuple[str, ...]] = {}
        self._happened = asyncio.Event()
        self._run: asyncio.Task[None] | None = None

    # --- the engine's side

    async def put(self, event: Event) -> None:
        self.events.append(event)
        self._happened.set()

    async def connect(self) -> None:
        self.engine = await LocalEngine.connect(
            self.state,
            inbox=self,
            clock=WallClock(),
            proxy_launch=lambda epoch: (self.proxy_argv, {"PATH": os.environ["PATH"]}),
            restart_keeper=self.start_keeper,
        )
        await self.engine.find_names()
        self._run = asyncio.create_task(self.engine.run())

    async def start_keeper(self) -> None:
        await asyncio.to_thread(start_keeper, self.state, DAEMON)

    async def disconnect(self) -> None:
        """As if the daemon died."""
        await self.engine.close()
        if self._run is not None:
            self._run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._run

    async def keeper_pid(self) -> int:
        client = await KeeperClient.connect(self.state.keeper_socket)
        try:
            return int((await client.call("hello"))["pid"])
        finally:
            await client.close()

    # --- the test's side

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def app(self, name: str, target: str = "web:app", **more: Any) -> Service:
        module, _, attribute = target.partition(":")
        return self._add(name, PythonApp(module=module, attribute=attribute), **more)

    def command(self, name: str, *argv: str, **more: Any) -> Service:
        return self._add(name, Command(argv=argv), **more)

    def python(self, name: str, code: str, **more: Any) -> Service:
        """A command in Python, given as a list."""
        return self.command(name, sys.executable, "-c", code, **more)

    def _add(self, name: str, workload: PythonApp | Command, **more: Any) -> Service:
        fields: dict[str, Any] = {"folder": str(self.folder), "port": 3000 + len(self.services)} | more
        service = Service(name=name, workload=workload, **fields)
        self.services.append(service)
        return service

    def launch(self, service: Service, *, number: int = 1, attempt: int = 1) -> Launch:
        app = App(name="test", services=tuple(self.services), folder=str(self.folder))
        pairs = [(s.name, callee) for s in self.services for callee in (DENIED, *s.calls)]
        edges = {pair: Edge(caller=pair[0], callee=pair[1], number=n) for n, pair in enumerate(pairs, 1)}
        revision = Revision(service=service, number=1, digest="x", created_at=0.0)
        return Launch(
            replica=f"{service.name}-r{number}",
            attempt=attempt,
            revision=revision,
            app=app,
            edges=EdgeMap(network=77, edges=edges),
        )

    async def start(self, service: Service, *, number: int = 1, attempt: int = 1) -> str:
        """The replica's id."""
        launch = self.launch(service, number=number, attempt=attempt)
        await self.engine.start(launch)
        return launch.replica

    async def ready(self, service: Service, *, number: int = 1, attempt: int = 1) -> str:
        replica = await self.start(service, number=number, attempt=attempt)
        await self.event(ProbeSucceeded, replica, attempt=attempt)
        return replica

    async def ended(self, service: Service, *, attempt: int = 1) -> Exit:
        """Starts it and waits for its end."""
        return await self.exit(await self.start(service, attempt=attempt), attempt=attempt)

    async def exit(self, replica: str, *, attempt: int = 1) -> Exit:
        return (await self.event(ReplicaExited, replica, attempt=attempt)).exit

    async def event(self, kind: type[E], replica: str | None = None, **fields: Any) -> E:
        """The first event of a kind about a replica, past or coming, whose fields have these values."""

        def matches(event: object) -> bool:
            wanted = fields if replica is None else fields | {"replica": replica}
            return isinstance(event, kind) and all(getattr(event, key) == value for key, value in wanted.items())

        return await self._first(matches, f"{kind.__name__} of {replica} {fields}")

    async def failure(self, replica: str, text: str) -> ProbeFailed:
        """The first failed probe whose words have `text`."""
        return await self._first(
            lambda e: isinstance(e, ProbeFailed) and e.replica == replica and text in e.detail,
            f"a probe of {replica} that says {text!r}",
        )

    async def _first(self, matches: Callable[[object], bool], what: str) -> Any:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    self._happened.clear()
                    for event in self.events:
                        if matches(event):
                            return event
                    await self._happened.wait()
        except TimeoutError:
            raise AssertionError(f"no {what} among {self.events}") from None

    def of(self, replica: str) -> list[str]:
        """The kinds of events about a replica, in order, without progress and probes."""
        quiet = ("ReplicaProgressed", "ProbeFailed", "ProbeSucceeded")
        about = [e for e in self.events if getattr(e, "replica", None) == replica]
        return [name for e in about if (name := type(e).__name__) not in quiet]

    async def pid(self, replica: str) -> int:
        return (await self.event(ReplicaStarted, replica)).pid

    def log(self, service: Service, *, number: int = 1) -> str:
        path = self.state.logs / service.name / f"{service.name}-r{number}.log"
        return path.read_text() if path.exists() else ""

    async def logged(self, service: Service, text: str, *, number: int = 1) -> str:
        """Waits until it has written a line with `text`; that line without its stamp."""

        def line() -> str:
            lines = self.log(service, number=number).splitlines()
            return next((line for line in lines if text in line), "")

        return (await until(line, f"{text!r} in the log of {service.name}")).partition(" ")[2]

    async def proxy_logged(self, text: str) -> None:
        path = self.state.logs / "envoy.log"
        await until(lambda: path.exists() and text in path.read_text(), f"{text!r} in the proxy's log")

    async def get(self, replica: str, path: str = "/") -> str:
        """The body of a replica's answer; empty when it hangs up."""
        address = (await self.event(ReplicaStarted, replica)).address
        async with asyncio.timeout(PATIENCE_S):
            match address:
                case UnixAddress(path=socket_path):
                    reader, writer = await asyncio.open_unix_connection(socket_path)
                case TcpAddress(host=host, port=port):
                    reader, writer = await asyncio.open_connection(host, port)
                case _:
                    raise AssertionError(f"{replica} has no address")
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
                answer = await reader.read()
            finally:
                writer.close()
                await writer.wait_closed()
        return answer.decode().partition("\r\n\r\n")[2]

    async def end(self) -> None:
        """Kills what runs, ends the keeper; nothing may be left."""
        await self.disconnect()
        await self.start_keeper()
        client = await KeeperClient.connect(self.state.keeper_socket)
        try:
            listing = await client.attach()
            await client.call("shutdown")
            for process in listing:
                if process["running"]:
                    with contextlib.suppress(Exception):
                        await client.call("signal", name=process["name"], signal=signal.SIGKILL, group=True)
            async with asyncio.timeout(PATIENCE_S):
                async for _ in client.events():
                    pass
        finally:
            await client.close()


@asynccontextmanager
async def engine_box(folder: Path) -> AsyncIterator[Box]:
    """`folder` becomes the app's. Sockets get a folder with a short name."""
    with tempfile.TemporaryDirectory(prefix="shoal-test-", dir="/tmp") as runtime:
        before = {name: os.environ.get(name) for name in ("XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "UV_CACHE_DIR")}
        os.environ["XDG_RUNTIME_DIR"] = runtime
        # The overlay is made anew for each folder; uv's cache is where it always is.
        os.environ.setdefault("UV_CACHE_DIR", await _uv_cache())
        os.environ["XDG_CACHE_HOME"] = str(folder / ".cache")
        box = Box(StateFolder.beside(folder), folder)
        try:
            await box.start_keeper()
            await box.connect()
            try:
                yield box
            finally:
                await box.end()
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


async def _uv_cache() -> str:
    process = await asyncio.create_subprocess_exec(
        uv.find_uv(), "cache", "dir", stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    return out.decode().strip()


async def until(condition: Callable[[], T], what: str) -> T:
    """The first true value of something that sends no event."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not in {PATIENCE_S} s: {what}"
        await asyncio.sleep(0.005)
    return value


def run(folder: Path, scenario: Callable[[Box], Any]) -> None:
    """Runs `async scenario(box)` with a box of its own."""
    folder.mkdir(parents=True, exist_ok=True)

    async def main() -> None:
        async with engine_box(folder) as box:
            await scenario(box)

    asyncio.run(main())
