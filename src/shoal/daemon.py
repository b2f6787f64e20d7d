"""The composition root: the only file that names every adapter.

The keeper starts it (`python -m shoal.daemon STATE_FOLDER`), and starts it again when it dies: what it needs to go on
is in the state folder and in what runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

# Envoy's stream only; gRPC's fork handlers would tax every start of a helper process.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import uvloop

import shoal
from shoal.api.app import create_app
from shoal.api.server import serve
from shoal.control.commands import Commands
from shoal.control.controller import Controller
from shoal.control.inbox import Inbox
from shoal.control.journal import Feed
from shoal.control.lag import LagWatch
from shoal.control.routing import Routing
from shoal.control.status import Identity
from shoal.engines.local.confidential import Confidential
from shoal.engines.local.engine import LocalEngine
from shoal.engines.local.gate import wait_until_open
from shoal.engines.local.keeper.start import start_keeper
from shoal.errors import ShoalError
from shoal.mesh.compile import MeshOptions
from shoal.mesh.snapshot import Snapshot
from shoal.model import event as ev
from shoal.model.app import Network
from shoal.paths import StateFolder
from shoal.store.lock import StateLock
from shoal.store.sqlite import SqliteStore
from shoal.store.vault import Vault
from shoal.xds import envoy, replacement
from shoal.xds.drains import Drains
from shoal.xds.meter import Meter
from shoal.xds.server import NODE, OWN_NODE, XdsServer

NETWORK = "network"
"""The store's key for the second byte of the app's addresses."""


OWN_BASE = 1000
"""Added to the network's byte: the base id of the Envoy in the mesh network."""


class WallClock:
    """`ports.Clock`: the wall's time when the process started plus what has passed since; steps of the wall's clock
    would end back-offs too early or never."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return self._offset + time.monotonic()


class _Sinks:
    """`ports.SnapshotSink`: tells the engine of the second Envoy that a snapshot is meant for."""

    def __init__(self, xds: XdsServer, engine: LocalEngine) -> None:
        self._xds = xds
        self._engine = engine

    def publish(self, snapshot: Snapshot) -> None:
        self._xds.publish(snapshot)
        if snapshot.own is not None:
            self._engine.want_mesh_network()


async def run(state: StateFolder) -> None:
    """Until the app is down, or SIGTERM. What runs goes on after SIGTERM: only `shoal down` stops it."""
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None
    loop.add_signal_handler(signal.SIGTERM, main.cancel)
    loop.add_signal_handler(signal.SIGINT, main.cancel)
    with StateLock(state.root / "daemon.lock"):
        async with AsyncExitStack() as stack:
            await _compose_and_run(state, stack)


async def _compose_and_run(state: StateFolder, stack: AsyncExitStack) -> None:
    clock, inbox, feed = WallClock(), Inbox(), Feed()
    store = SqliteStore(state.database)
    stack.callback(store.close)
    network = int(store.get(NETWORK) or 77)
    vault = Vault(state)
    engine = await LocalEngine.connect(
        state,
        inbox=inbox,
        clock=clock,
        proxy_launch=lambda epoch: _envoy_launch(state, network, epoch),
        own_proxy_launch=lambda _epoch: _own_envoy_launch(state, network),
        proxy_live=lambda epoch: replacement.is_live(state.envoy_admin_socket, epoch),
        restart_keeper=lambda: asyncio.to_thread(start_keeper, state, daemon_argv(state)),
        confidential=Confidential(state, vault.read, lambda wanted: vault.generate(wanted, clock.now())),
    )
    stack.push_async_callback(engine.close)
    others = {number % OWN_BASE for number in envoy.running_base_ids(state.envoy)}
    network = await engine.lease_network(prefer=network, avoid=others)
    store.put(NETWORK, str(network))
    # Envoy comes up, and a child process tries out namespaces, while this process reads its store and opens its API.
    await engine.start_proxy_ahead()
    names = asyncio.create_task(engine.find_names(), name="names")
    stack.callback(names.cancel)
    if engine.may_share_names:
        await names  # whether Envoy listens for callers that nobody knows depends on it
    sink = XdsServer(inbox, clock, state.xds_socket)
    meter = Meter(inbox, clock, (state.envoy_admin_socket, state.own_envoy_admin_socket))
    drains = Drains(inbox, clock, (state.envoy_admin_socket, state.own_envoy_admin_socket))
    controller = Controller(
        inbox=inbox,
        store=store,
        engine=engine,
        sink=_Sinks(sink, engine),
        clock=clock,
        routing=Routing(_mesh_options(state)),
        network=network,
        feed=feed,
        meter=meter,
        anybody=engine.names_mode == "hosts",
        drains=drains,
    )
    adopted = await controller.attach()
    await names
    if controller.desired is not None and not controller.desired.down:
        await engine.share_names(controller.desired.app, controller.edges)
    controller.note(ev.DaemonStarted(at=clock.now(), pid=os.getpid(), version=shoal.__version__, adopted=adopted))
    for problem in store.problems:
        controller.note(ev.Warned(at=clock.now(), subject="daemon", message=problem))
    lag = LagWatch(engine.lag_reader, clock)
    stack.push_async_callback(lag.close)
    commands = Commands(
        controller,
        store=store,
        clock=clock,
        identity=lambda: Identity(
            folder=str(state.root.parent),
            version=shoal.__version__,
            pid=os.getpid(),
            names=engine.names_mode,
            names_reason=engine.names_reason,
            no_way_out=engine.no_way_out,
            socket=str(state.api_socket),
        ),
        check_ports=lambda app: [
            *engine.check_networks(app),
            *engine.check_surroundings(app),
            *engine.check_ports(app),
        ],
        migrations=engine.migrations,
        lag=lag,
        context=lambda desired, service: engine.exec_context(
            desired.app, controller.edges, desired.targets[service].revision
        ),
    )
    running = await engine.observe_proxy()
    async with asyncio.TaskGroup() as tasks:
        serving = [
            tasks.create_task(sink.run(), name="xds"),
            tasks.create_task(engine.run(), name="engine"),
            tasks.create_task(meter.run(), name="meter"),
            tasks.create_task(drains.run(), name="drains"),
            tasks.create_task(serve(create_app(commands, store, feed, state.logs), state.api_socket), name="api"),
        ]
        if running is not None:
            serving.append(tasks.create_task(_look_at_envoy(state, running, inbox, clock), name="look at Envoy"))
        await controller.run()
        # Down: nothing of the app runs any more. The keeper goes once we are gone.
        await engine.shutdown_keeper()
        for task in serving:
            task.cancel()
    _remove_traces(state, Network.HOST, network)
    _remove_traces(state, Network.OWN, network + OWN_BASE)
    state.network_socket.unlink(missing_ok=True)


def _mesh_options(state: StateFolder) -> MeshOptions:
    return MeshOptions(mesh_socket=str(state.mesh_socket), ipv6=_has_ipv6(), doors=str(state.run))


def _remove_traces(state: StateFolder, side: Network, base_id: int) -> None:
    """A killed Envoy leaves its sockets and its shared memory, and the next one would trip over them."""
    named = (state.mesh_socket, state.envoy_admin_socket) if side is Network.HOST else (state.own_envoy_admin_socket,)
    for left in (*named, *state.run.glob(f"{side}-*.door")):
        left.unlink(missing_ok=True)
    envoy.remove_shared_memory(base_id)


def _envoy_launch(state: StateFolder, network: int, epoch: int) -> tuple[list[str], dict[str, str]]:
    """Envoy's argv and environment. The app's leased network byte is its `--base-id` too: one lease for both. `epoch`:
    above 0 it takes over from another, whose sockets and shared memory it needs."""
    if epoch == 0:
        _remove_traces(state, Network.HOST, network)
    return _bootstrapped(state, NODE, state.envoy_admin_socket, network, epoch)


def _own_envoy_launch(state: StateFolder, network: int) -> tuple[list[str], dict[str, str]]:
    """Of the Envoy in the mesh network."""
    _remove_traces(state, Network.OWN, network + OWN_BASE)
    return _bootstrapped(state, OWN_NODE, state.own_envoy_admin_socket, network + OWN_BASE)


def _bootstrapped(
    state: StateFolder, node: str, admin: Path, base_id: int, epoch: int = 0
) -> tuple[list[str], dict[str, str]]:
    binary = envoy.find_envoy()
    state.envoy.mkdir(mode=0o700, exist_ok=True)
    path = _bootstrap_path(state, node)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(_bootstrap_text(state, node, admin))
    temporary.replace(path)
    argv = envoy.envoy_argv(binary, path, base_id=base_id, epoch=epoch, drain_s=envoy.drain_s())
    return argv, {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}


def _bootstrap_path(state: StateFolder, node: str) -> Path:
    return state.envoy / ("bootstrap.json" if node == NODE else "bootstrap-own.json")


def _bootstrap_text(state: StateFolder, node: str, admin: Path) -> str:
    return envoy.bootstrap(node=node, cluster=state.root.parent.name, admin_socket=admin, xds_socket=state.xds_socket)


async def _look_at_envoy(state: StateFolder, pid: int, inbox: Inbox, clock: WallClock) -> None:
    """Asks for another Envoy where another is installed than the one that runs, as after an upgrade."""
    try:
        binary = envoy.find_envoy()
    except ShoalError:
        return  # what runs goes on; who starts the next one says what is missing
    wanted = _bootstrap_text(state, NODE, state.envoy_admin_socket)
    found = await asyncio.to_thread(replacement.difference, pid, binary, _bootstrap_path(state, NODE), wanted)
    if found is None:
        return
    if found.takes_over:
        await inbox.put(ev.ProxyReplacementRequested(at=clock.now(), reason=found.words))
        return
    message = f"{found.words}, and cannot take over its connections; the old one serves on"
    way_out = "shoal down and shoal up replace it; what is under way at that moment is lost"
    await inbox.put(ev.Warned(at=clock.now(), subject="proxy", message=message, way_out=way_out))


def _has_ipv6() -> bool:
    """Whether [::1] can be bound."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def daemon_argv(state: StateFolder) -> list[str]:
    return [sys.executable, "-m", "shoal.daemon", str(state.root)]


def main() -> int:
    state = StateFolder(Path(sys.argv[1]))
    wait_until_open(state.gate)
    try:
        uvloop.run(run(state))
    except asyncio.CancelledError:
        return 0  # SIGTERM
    except ShoalError as error:
        print(f"shoal daemon: {error}", file=sys.stderr)  # noqa: T201 - the keeper keeps it in daemon.log
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
