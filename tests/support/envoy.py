"""A real Envoy for a test, a child of it, fed by a real XdsServer; everything is gone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shoal.errors import EngineError
from shoal.mesh.assemble import assemble
from shoal.mesh.compile import MeshOptions, compile_app
from shoal.mesh.endpoints import Endpoint, assignment
from shoal.mesh.routes import Times
from shoal.mesh.snapshot import Message, Snapshot
from shoal.model.app import App
from shoal.model.event import Event, ResourceRejected, SnapshotApplied
from shoal.model.topology import DENIED, EGRESS, Edge, EdgeMap
from shoal.xds.admin import admin_get
from shoal.xds.envoy import bootstrap, envoy_argv, find_envoy, remove_shared_memory
from shoal.xds.server import XdsServer

WAIT_S = 20.0


class WallClock:
    def now(self) -> float:
        return time.time()


class ListInbox:
    """Takes every event; `expect` waits for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = asyncio.Condition()

    async def put(self, event: Event) -> None:
        async with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    async def expect(self, condition: Callable[[Event], bool], *, since: int = 0) -> Event:
        """The first event from index `since` on that is as wanted."""
        async with asyncio.timeout(WAIT_S), self._changed:
            while True:
                for event in self.events[since:]:
                    if condition(event):
                        return event
                await self._changed.wait()


def edge_map(app: App, network: int) -> EdgeMap:
    """Leases for every declared call and every caller's deny address, numbered as they come."""
    pairs = [(service.name, callee) for service in app.services for callee in (*service.calls, DENIED)]
    pairs += [(service.name, EGRESS) for service in app.services if service.egress]
    return EdgeMap(
        network=network,
        edges={pair: Edge(caller=pair[0], callee=pair[1], number=n) for n, pair in enumerate(pairs, start=1)},
    )


@contextlib.contextmanager
def leased_network() -> Iterator[int]:
    """The second byte of the app's addresses, and Envoy's base id: the kernel keeps the lease, as for a real keeper."""
    for network in [*range(200, 255), *range(54, 200)]:
        lease = socket.socket()
        try:
            lease.bind((f"127.{network}.0.1", 7077))
        except OSError:
            lease.close()
            continue
        try:
            yield network
        finally:
            lease.close()
        return
    raise AssertionError("no free network")


@dataclass
class Rig:
    """Envoy, its control plane, and the folder of their sockets."""

    folder: Path
    network: int
    inbox: ListInbox
    server: XdsServer
    options: MeshOptions
    edges: EdgeMap | None = None
    static: dict[str, dict[str, Message]] = field(default_factory=dict)
    assignments: dict[str, Message] = field(default_factory=dict)
    endpoints: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    version: int = 0
    process: asyncio.subprocess.Process | None = None
    _task: asyncio.Task[None] | None = None

    @property
    def admin_socket(self) -> Path:
        return self.folder / "admin.sock"

    @property
    def xds_socket(self) -> Path:
        return self.folder / "xds.sock"

    @property
    def mesh_socket(self) -> Path:
        return Path(self.options.mesh_socket)

    def deploy(self, app: App) -> None:
        """Compiles it; `publish` sends it."""
        self.edges = edge_map(app, self.network)
        self.static = compile_app(app, self.edges, self.options)

    def route(self, service: str, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints[service] = tuple(endpoints)
        self.assignments[service] = assignment(service, endpoints)

    def snapshot(self) -> Snapshot:
        self.version += 1
        replicas = frozenset(e.replica for group in self.endpoints.values() for e in group)
        return assemble(self.static, self.assignments, version=self.version, replicas=replicas)

    async def apply(self) -> None:
        """Publishes what there is and waits until Envoy confirmed it."""
        snapshot = self.snapshot()
        self.server.publish(snapshot)
        await self.applied(snapshot.version)

    async def applied(self, version: int, *, since: int = 0) -> None:
        await self.inbox.expect(lambda e: isinstance(e, SnapshotApplied) and e.version >= version, since=since)

    async def rejected(self, name: str, *, since: int = 0) -> ResourceRejected:
        event = await self.inbox.expect(lambda e: isinstance(e, ResourceRejected) and e.resource == name, since=since)
        assert isinstance(event, ResourceRejected)
        return event

    async def start_server(self) -> None:
        self._task = asyncio.create_task(self.server.run())

    async def stop_server(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    async def restart_server(self) -> XdsServer:
        """A control plane that knows nothing of the one before, as after a crash. It has not published yet."""
        await self.stop_server()
        self.server = XdsServer(self.inbox, WallClock(), self.xds_socket)
        await self.start_server()
        return self.server

    async def start_envoy(self) -> None:
        config = self.folder / "bootstrap.json"
        config.write_text(
            bootstrap(node="test", cluster="test", admin_socket=self.admin_socket, xds_socket=self.xds_socket)
        )
        argv = envoy_argv(find_envoy(), config, base_id=self.network, concurrency=1)
        with (self.folder / "envoy.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    async def stop_envoy(self) -> None:
        if self.process is not None:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()
            self.process = None
        remove_shared_memory(self.network)

    def log(self) -> str:
        return (self.folder / "envoy.log").read_text(errors="replace")

    async def stat(self, name: str) -> int:
        """One of Envoy's counters; 0 where it never counted."""
        for line in (await admin_get(f"/stats?filter=^{name}$", self.admin_socket)).splitlines():
            return int(line.rpartition(": ")[2])
        return 0

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Asks again and again, with an end."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not condition():  # noqa: ASYNC110  what is asked lies outside this process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not within {WAIT_S} s: {what}\n{self.log()}") from None


@asynccontextmanager
async def rig(app: App | None = None, *, ipv6: bool = True, times: Times | None = None) -> AsyncIterator[Rig]:
    """With a running XdsServer and a starting Envoy. With an app: deployed, no endpoints, not published."""
    folder = Path(tempfile.mkdtemp(prefix="shoal-t-"))  # short: the names of Unix sockets end at 107 bytes
    inbox = ListInbox()
    with leased_network() as network:
        made = Rig(
            folder=folder,
            network=network,
            inbox=inbox,
            server=XdsServer(inbox, WallClock(), folder / "xds.sock"),
            options=MeshOptions(mesh_socket=str(folder / "mesh.sock"), ipv6=ipv6, times=times or Times()),
        )
        if app is not None:
            made.deploy(app)
        try:
            await made.start_server()
            await made.start_envoy()
            yield made
        except (TimeoutError, EngineError) as error:
            raise AssertionError(f"{error!r}\n{made.log()}") from error
        finally:
            await made.stop_envoy()
            await made.stop_server()
            shutil.rmtree(folder, ignore_errors=True)
