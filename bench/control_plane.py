"""The real control plane in this process, with the real Envoy, and replicas that are only claimed to run: all lead to
one socket. So a thousand services fit on a small machine, and what is measured is Shoal's own work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.envoy import leased_network

from bench.processes import process
from shoal.control.controller import Controller
from shoal.control.inbox import Inbox
from shoal.control.journal import Feed
from shoal.control.routing import Routing
from shoal.mesh.compile import MeshOptions
from shoal.model import event as ev
from shoal.model.app import App, Command, Service
from shoal.model.replica import UnixAddress
from shoal.model.world import ProxyState, Revision
from shoal.ports import Found, Launch, Preparation
from shoal.store.sqlite import SqliteStore
from shoal.xds.envoy import bootstrap, envoy_argv, find_envoy, remove_shared_memory
from shoal.xds.server import XdsServer

START_S_MAX = 60.0
PORT = 3000
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Clock:
    def now(self) -> float:
        return time.time()


class ClaimedEngine:
    """`ports.Engine`: a replica is ready the moment it is started; Envoy is started by whoever measures it."""

    def __init__(self, inbox: Inbox, socket: Path) -> None:
        self._inbox, self._socket = inbox, socket

    async def start(self, launch: Launch) -> None:
        address = UnixAddress(path=str(self._socket))
        for event in (
            ev.ReplicaStarted(at=time.time(), replica=launch.replica, attempt=launch.attempt, pid=1, address=address),
            ev.ProbeSucceeded(at=time.time(), replica=launch.replica, attempt=launch.attempt),
        ):
            await self._inbox.put(event)

    async def stop(self, replica: str, *, force: bool) -> bool:
        return False

    async def observe(self) -> Sequence[Found]:
        return []

    async def forget(self, replica: str) -> None:
        pass

    async def snapshot(self, app: App, *, keep: bool) -> Mapping[str, str]:
        return {}

    async def files(self, source: str) -> Mapping[str, str]:
        return {}

    async def prepare(self, preparation: Preparation) -> None:
        pass

    async def collect(self, revisions: Collection[Revision]) -> None:
        pass

    async def replace_proxy(self) -> None:
        pass

    async def start_proxy(self) -> None:
        await self._inbox.put(ev.ProxyStarted(at=time.time(), pid=1))

    async def stop_proxy(self) -> None:
        pass

    async def observe_proxy(self) -> int | None:
        return None


@dataclass
class Box:
    folder: Path
    inbox: Inbox
    controller: Controller
    envoy_pid: int
    up_s: float
    """From Envoy's start to its confirmation of everything."""

    @property
    def mesh_socket(self) -> Path:
        return self.folder / "mesh.sock"

    async def tell(self, replica: str, *, ready: bool) -> None:
        """What three failed probes, or one good one, do."""
        now = time.time()
        if ready:
            await self.inbox.put(ev.ProbeSucceeded(at=now, replica=replica, attempt=1))
            return
        for _ in range(3):
            await self.inbox.put(ev.ProbeFailed(at=now, replica=replica, attempt=1, detail="bench"))

    async def confirmed(self, replica: str, *, routed: bool) -> None:
        """Until Envoy said so."""
        await eventually(
            lambda: (
                not self.controller.observed.pending
                and (replica in self.controller.observed.applied.replicas) is routed
            )
        )


def many_services(count: int, calls: Callable[[int], Sequence[int]] = lambda number: ()) -> App:
    """`s0`, `s1`, ...; `calls`: whom each calls."""
    return App(
        name="bench",
        services=tuple(
            Service(
                name=f"s{number}",
                workload=Command(argv=("true",)),  # its replicas speak HTTP/1.1
                folder="/",
                port=PORT,
                calls=tuple(f"s{callee}" for callee in calls(number)),
            )
            for number in range(count)
        ),
        folder="/tmp",
    )


async def eventually(condition: Callable[[], object], *, within_s: float = START_S_MAX) -> None:
    """TimeoutError: it did not come true."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  it changes in the controller's task, which tells nobody
            await asyncio.sleep(0.002)  # below a millisecond, uvloop would not sleep at all


@asynccontextmanager
async def box(app: App) -> AsyncIterator[Box]:
    """Up: every service has one replica, and Envoy has confirmed it all."""
    folder = Path(tempfile.mkdtemp(prefix="shoal-bench-", dir="/tmp"))
    # A line for each cluster that a busy machine warms late would bury the table: a daemon has its log for them.
    kept = logging.FileHandler(folder / "daemon.log", delay=True)
    logging.getLogger("shoal").addHandler(kept)
    try:
        with leased_network() as network:
            async with _control(app, folder, network) as (controller, inbox):
                await eventually(lambda: len(controller.observed.replicas) == len(app.services))
                async with asyncio.timeout(START_S_MAX):
                    replicas = await asyncio.start_unix_server(_answer, folder / "r.sock")
                config = folder / "envoy.json"
                sockets = {"admin_socket": folder / "admin.sock", "xds_socket": folder / "xds.sock"}
                config.write_text(bootstrap(node="bench", cluster="bench", **sockets))
                started = time.monotonic()
                try:
                    with process(envoy_argv(find_envoy(), config, base_id=network), folder=folder) as envoy:
                        observed = controller.observed
                        await eventually(
                            lambda: (
                                observed.proxy.state is ProxyState.SERVING
                                and len(observed.applied.replicas) == len(app.services)
                            )
                        )
                        yield Box(folder, inbox, controller, envoy.pid, time.monotonic() - started)
                finally:
                    replicas.close()
                    remove_shared_memory(network)
    finally:
        logging.getLogger("shoal").removeHandler(kept)
        kept.close()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _control(app: App, folder: Path, network: int) -> AsyncIterator[tuple[Controller, Inbox]]:
    inbox, clock = Inbox(), Clock()
    store = SqliteStore(folder / "state.db")
    sink = XdsServer(inbox, clock, folder / "xds.sock")
    controller = Controller(
        inbox=inbox,
        store=store,
        engine=ClaimedEngine(inbox, folder / "r.sock"),
        sink=sink,
        clock=clock,
        routing=Routing(MeshOptions(mesh_socket=str(folder / "mesh.sock"), ipv6=False)),
        network=network,
        feed=Feed(),
    )
    await controller.attach()
    controller.deploy(app, {})
    tasks = [asyncio.create_task(sink.run()), asyncio.create_task(controller.run())]
    try:
        yield controller, inbox
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        store.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_ANSWER)
            await writer.drain()
    writer.close()


async def statuses(socket: Path, host: str) -> AsyncIterator[int]:
    """Asks again and again over one connection; the status of each answer."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        while True:
            writer.write(f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
            )
            await reader.readexactly(length)
            yield int(head.split()[1])
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
