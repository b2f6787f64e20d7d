"""The local engine: replicas and Envoy as processes of the keeper."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from shoal.engines.local import endings, names, shared_names, stopping, tags, tails, taken
from shoal.engines.local.confidential import Confidential
from shoal.engines.local.keeper_client import KeeperError
from shoal.engines.local.keeper_link import KeeperLink, Listing
from shoal.engines.local.launching import Launcher, Prepared, further_lease
from shoal.engines.local.migrations.records import Records
from shoal.engines.local.migrations.runs import Migrations
from shoal.engines.local.networks import detection, ways_out
from shoal.engines.local.networks.mesh import MeshNetwork
from shoal.engines.local.networks.reach import Reach
from shoal.engines.local.networks.stranded import Stranded
from shoal.engines.local.networks.ways_out import Inside, WaysOut
from shoal.engines.local.prober import Probed, Prober
from shoal.engines.local.proxy import NAMES as PROXIES
from shoal.engines.local.proxy import ProxyLaunch, ProxyLive, ProxyProcess, always_live
from shoal.engines.local.resources.lag import LocalLagReader
from shoal.engines.local.tags import ReplicaTag
from shoal.errors import EngineError, ShoalError
from shoal.model import event as ev
from shoal.model.app import App, Network
from shoal.model.migration import MigrationRun
from shoal.model.replica import Exit, TcpAddress
from shoal.model.status import ExecContext
from shoal.model.topology import EdgeMap
from shoal.model.world import Revision
from shoal.paths import StateFolder
from shoal.ports import Clock, Found, Inbox, LagReader, Launch, Preparation

SEEN_S_MAX = 10.0
"""From the keeper's answer that a process runs to the handling of its event, which it sent before."""


@dataclass(kw_only=True)
class _Process:
    """A replica's process, running or ended."""

    tag: ReplicaTag
    pid: int
    running: bool
    exit_code: int | None = None


@dataclass(kw_only=True)
class _Start:
    """A start on its way."""

    attempt: int
    work: asyncio.Task[None] | None = None
    spawning: bool = False
    """The keeper was asked: from here on it can only be ended, not given up."""
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    """The keeper has told that it runs."""
    given_up: bool = False
    force: bool = False


class LocalEngine:
    """Implements `ports.Engine`. Make it with `connect`, `run` it in a task, `close` it; what runs goes on."""

    def __init__(
        self,
        state: StateFolder,
        *,
        inbox: Inbox,
        clock: Clock,
        proxy_launch: ProxyLaunch,
        own_proxy_launch: ProxyLaunch | None,
        proxy_live: ProxyLive | None,
        restart_keeper: Callable[[], Awaitable[None]],
        launcher: Launcher,
    ) -> None:
        self._state = state
        self._inbox = inbox
        self._clock = clock
        self._launcher = launcher
        self._processes: dict[str, _Process] = {}
        self._starts: dict[str, _Start] = {}
        self._network: int | None = None
        self._prober = Prober(inbox.put, now=clock.now)
        self._link = KeeperLink(
            state.keeper_socket,
            restart_keeper,
            on_event=self._on_event,
            on_lost=self._on_lost,
            on_found=self._on_found,
            on_up=self._on_up,
        )
        self._proxy = ProxyProcess(
            self._link, state, inbox=inbox, clock=clock, launch=proxy_launch, live=proxy_live or always_live
        )
        self._mesh = MeshNetwork(
            self._link, state, launch=own_proxy_launch or proxy_launch, on_new=self._leave_dead_network
        )
        self._ways_out = WaysOut(self._link, state, wanted=self._wanting_ways_out, mesh=lambda: self._mesh.pid)
        self._stranded = Stranded(inbox, clock, ask=self._ask_to_end)
        self._migration_records = Records(state.root / "migrations")
        self._migrations = Migrations(self._link, self._migration_records, now=clock.now)

    @classmethod
    async def connect(
        cls,
        state: StateFolder,
        *,
        inbox: Inbox,
        clock: Clock,
        proxy_launch: ProxyLaunch,
        own_proxy_launch: ProxyLaunch | None = None,
        proxy_live: ProxyLive | None = None,
        restart_keeper: Callable[[], Awaitable[None]],
        python: Path | None = None,
        confidential: Confidential | None = None,
    ) -> LocalEngine:
        """Attaches to the keeper that answers on `state.keeper_socket`. `find_names` comes before the first start.

        `proxy_launch` gives Envoy's argv and environment, `own_proxy_launch` those of the second one, which is started
        in the mesh network once a service has a network of its own; `proxy_live` tells whether a successor has taken
        over; `restart_keeper` starts a keeper unless one answers; `python`: makes the services' environments.
        NotRunningError: no keeper.
        """
        # With `-m` the daemon's own interpreter; a bare name would be looked up in the keeper's PATH.
        python = python or Path(sys.executable)
        launcher = Launcher(state, inbox=inbox, clock=clock, python=python, confidential=confidential)
        engine = cls(
            state,
            inbox=inbox,
            clock=clock,
            proxy_launch=proxy_launch,
            own_proxy_launch=own_proxy_launch,
            proxy_live=proxy_live,
            restart_keeper=restart_keeper,
            launcher=launcher,
        )
        listing = await engine._link.open()
        await launcher.homes.sweep()
        launcher.confidential.sweep()
        engine._take_over(listing)
        engine._proxy.take_over(listing)
        await engine._proxy.settle()
        engine._mesh.take_over(listing)
        engine._ways_out.take_over(listing)
        engine._migrations.take_over(listing)
        return engine

    async def find_names(self) -> None:
        """Finds out whether services can have names here: some 50 ms, of which a child process takes most."""
        launcher = self._launcher
        launcher.named, launcher.names_reason = await asyncio.to_thread(names.detect)
        if launcher.named:
            return
        if self.may_share_names:
            launcher.shared = shared_names.SharedNames(self._state.root)
            launcher.names_reason = launcher.names_reason.removesuffix(f"; {names.BY_VARIABLES}")
            await launcher.warn("app", "services have their names in an /etc/hosts for all", launcher.names_reason)
        else:
            await launcher.warn("app", "services find each other by variables only", launcher.names_reason)

    @property
    def may_share_names(self) -> bool:
        """Whether the names may stand in an `/etc/hosts` that all read, should there be no private ones."""
        return shared_names.why_not() == ""

    async def share_names(self, app: App, edges: EdgeMap) -> None:
        """For replicas that run already; each start does it too."""
        await self._launcher.share(app, edges)

    @property
    def names_mode(self) -> str:
        """`names` (private hosts files), `hosts` (one that all read: nobody knows who calls) or `env` (variables)."""
        if self._launcher.named:
            return "names"
        return "env" if self._launcher.shared is None else "hosts"

    @property
    def names_reason(self) -> str:
        """Why it is `hosts` or `env`; empty otherwise."""
        return self._launcher.names_reason

    @property
    def no_way_out(self) -> str:
        """Why replicas with networks of their own have none to the outside, if they have no list of places."""
        return ways_out.detect()[1]

    async def run(self) -> None:
        """Reports what happens, for ever. A keeper that dies is replaced, and what runs is found again."""
        self._mesh.revive()
        self._ways_out.settle()
        await self._leave_dead_network()
        self._proxy.resume()
        await self._link.run()

    async def close(self) -> None:
        """Ends the engine's own tasks; touches no process."""
        await self._prober.close()
        await self._proxy.close()
        await self._mesh.close()
        await self._stranded.close()
        await self._ways_out.close()
        starts = [start.work for start in self._starts.values() if start.work is not None]
        for work in starts:
            work.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
        await self._link.close()

    async def lease_network(self, *, prefer: int = 77, avoid: Collection[int] = ()) -> int:
        """The second byte of this app's addresses, its own as long as a keeper lives. EngineError: all are taken."""
        answer = await self._link.call("lease_network", prefer=prefer, avoid=list(avoid))
        network: int = answer["network"]
        self._network = network
        return network

    async def shutdown_keeper(self) -> None:
        """The keeper ends when nothing but the daemon runs any more, and that has ended too."""
        await self._launcher.unshare()
        await self._migrations.stop()
        await self._proxy.drop()
        await self._link.call("shutdown")

    def exec_context(self, app: App, edges: EdgeMap, revision: Revision) -> ExecContext:
        """What a command needs to run as if it were part of the service. EngineError."""
        service = revision.service.name
        context = self._launcher.exec_context(app, edges, revision)
        if revision.service.network is not Network.OWN:
            return context
        replica = next((p for p in self._processes.values() if p.running and p.tag.service == service), None)
        mesh = self._mesh.pid
        if replica is None or mesh is None:
            raise EngineError(
                f"no replica of {service} runs, and the command would enter the network of one",
                way_out="start one: shoal up",
            )
        resolv = self._launcher.resolv(revision.service) if replica.tag.way_out else None
        return replace(context, network=":".join([str(mesh), str(replica.pid), *([resolv] if resolv else [])]))

    def check_ports(self, app: App) -> list[str]:
        """One line for each port that the app needs on this machine and others hold. Reads /proc: some 10 ms."""
        own = {process.pid for process in self._processes.values() if process.running}
        return taken.taken_ports(app, own | ({self._proxy.pid} if self._proxy.pid is not None else set()))

    def check_networks(self, app: App) -> list[str]:
        """One line for each service that is to have a network of its own, where there are none. Tries once: 100 ms."""
        wanting = [service.name for service in app.services if service.network is Network.OWN]
        if not wanting:
            return []
        possible, why_not = detection.detect()
        return [] if possible else [f"service {name!r} cannot have 'network: own' here: {why_not}" for name in wanting]

    def check_surroundings(self, app: App) -> list[str]:
        """One line for each service that cannot have what it wants around it on this machine."""
        return self._launcher.check_surroundings(app)

    # --- ports.Engine: replicas

    async def start(self, launch: Launch) -> None:
        known = self._processes.get(launch.replica)
        if known is not None and known.running:
            if known.tag.attempt == launch.attempt:
                return
            raise EngineError(f"{launch.replica} still runs its attempt {known.tag.attempt}")
        other = self._starts.get(launch.replica)
        if other is not None:
            if other.attempt == launch.attempt:
                return
            raise EngineError(f"{launch.replica} still starts its attempt {other.attempt}")
        start = self._starts[launch.replica] = _Start(attempt=launch.attempt)
        start.work = asyncio.create_task(self._start(launch, start), name=f"prepare {launch.replica}")
        failure: ShoalError | None = None
        try:
            await start.work
        except asyncio.CancelledError:
            if not start.given_up:
                start.work.cancel()
                raise
            failure = EngineError("its start was given up")
        except ShoalError as error:
            failure = error
        finally:
            # Before the end is told: the next attempt may follow at once.
            del self._starts[launch.replica]
        if failure is not None:
            now = self._clock.now()
            end = Exit(at=now, error=str(failure), tail=tuple(failure.detail.splitlines()[-tails.LINES :]))
            await self._inbox.put(ev.ReplicaExited(at=now, replica=launch.replica, attempt=launch.attempt, exit=end))

    async def stop(self, replica: str, *, force: bool) -> bool:
        start = self._starts.get(replica)
        if start is not None:
            start.given_up, start.force = True, start.force or force
            if not start.spawning and start.work is not None:
                start.work.cancel()
            return True
        process = self._processes.get(replica)
        if process is None or not process.running:
            return False
        await self._signal(process, force=force)
        return True

    async def snapshot(self, app: App, *, keep: bool) -> Mapping[str, str]:
        running = {(p.tag.service, p.tag.folder) for p in self._processes.values() if p.running}
        found = await self._launcher.homes.take(app, keep=keep)
        if keep:
            await self._launcher.homes.tell_what_is_written(sorted(running))
        return found

    async def files(self, source: str) -> Mapping[str, str]:
        return await asyncio.to_thread(self._launcher.homes.files, source)

    async def prepare(self, preparation: Preparation) -> None:
        await self._launcher.furnish(preparation)
        await self._migrate(preparation)

    async def _migrate(self, preparation: Preparation) -> None:
        revision = preparation.revision
        service, migration = revision.service, revision.service.migrate
        if migration is None:
            return
        launcher = self._launcher
        await launcher.resources.ensure(service)
        await self._migrations.ensure(
            preparation,
            partial(launcher.migration, preparation, migration),
            partial(launcher.resources.identity, service),
            launcher.migration_log(revision),
            launcher.progress(revision),
        )

    @property
    def lag_reader(self) -> LagReader:
        return LocalLagReader(self._launcher.resources, self._launcher.confidential.values)

    def migrations(self, service: str) -> list[MigrationRun]:
        """Those of a service that have ended, oldest first. EngineError."""
        return self._migration_records.of(service)

    async def collect(self, revisions: Collection[Revision]) -> None:
        running = [process for process in self._processes.values() if process.running]
        await asyncio.to_thread(
            self._launcher.collect,
            revisions,
            folders=[Path(process.tag.folder) for process in running],
            pids=[process.pid for process in running],
            logs={self._launcher.log_of(process.tag.service, process.tag.replica) for process in running},
        )

    async def observe(self) -> Sequence[Found]:
        found: list[Found] = []
        for process in self._processes.values():
            tag = process.tag
            found.append(
                Found(
                    replica=tag.replica,
                    attempt=tag.attempt,
                    pid=process.pid,
                    address=tag.address,
                    ports=tag.addresses,
                    running=process.running,
                    exit_code=process.exit_code,
                )
            )
            if process.running:
                self._probe(process, found=True)
        return found

    async def forget(self, replica: str) -> None:
        process = self._processes.get(replica)
        if process is not None and process.running:
            return
        self._prober.stop(replica)
        self._processes.pop(replica, None)
        try:
            await self._link.call("forget", name=replica)
        except KeeperError:
            pass  # it knows nothing of it either
        service = process.tag.service if process is not None else None
        hosts = {p.tag.hosts for p in self._processes.values() if p.tag.hosts}
        self._launcher.release(replica, service, hosts, {f for p in self._processes.values() for f in p.tag.files})

    # --- ports.Engine: the proxy

    async def start_proxy_ahead(self) -> None:
        """Before anybody asks for it: `start_proxy` finds it there. Until then `observe_proxy` does not know of it."""
        await self._proxy.start_ahead()

    async def start_proxy(self) -> None:
        await self._proxy.start()

    async def replace_proxy(self) -> None:
        await self._proxy.replace()

    async def stop_proxy(self) -> None:
        await self._mesh.stop()
        await self._proxy.stop()

    async def observe_proxy(self) -> int | None:
        return None if self._proxy.ahead else self._proxy.pid

    def want_mesh_network(self) -> None:
        """Services of the app have networks of their own, and Envoy must be there before they start."""
        self._mesh.want()

    # --- a start

    async def _start(self, launch: Launch, start: _Start) -> None:
        if launch.app.dev:
            # There is no rollout before which it could have been done.
            await self._migrate(Preparation(revision=launch.revision, app=launch.app, edges=launch.edges))
        prepared = await self._launcher.prepare(launch)
        if launch.revision.service.network is Network.OWN:
            await self._mesh.ensure()
        start.spawning = True
        try:
            await self._spawn(launch, prepared)
        except KeeperError as error:
            if error.reason != "namespace-failed":
                raise
            await self._launcher.lose_names(error.message)
            await self._spawn(launch, await self._launcher.prepare(launch))
        # The keeper's event `spawned`, which it sends before it answers, is what is reported: so an exit, however
        # quick, is reported after it. Nor may anybody be told that it runs before we know it ourselves.
        try:
            async with asyncio.timeout(SEEN_S_MAX):
                await start.seen.wait()
        except TimeoutError:
            raise EngineError(f"{launch.replica} was started, but the keeper did not tell of it") from None
        if start.given_up:
            await self._signal(self._processes[launch.replica], force=start.force)

    async def _spawn(self, launch: Launch, prepared: Prepared) -> None:
        try:
            await self._link.call("spawn", name=launch.replica, **self._placed(prepared))
        except KeeperError as error:
            if error.reason != "exists":
                raise
            # Asked twice: the first keeper died between doing and answering.

    def _placed(self, prepared: Prepared) -> dict[str, object]:
        """What to ask the keeper for, with the network of now."""
        if prepared.own_address is None:
            return prepared.request
        files: dict[str, object] = prepared.request["namespace"] or {}  # type: ignore[assignment]
        tag: dict[str, object] = prepared.request["tag"]  # type: ignore[assignment]
        return {
            **prepared.request,
            "tag": {**tag, "mesh": self._mesh.id},
            "namespace": {**files, "network": self._mesh.network_of(prepared.own_address, prepared.resolv)},
        }

    async def _signal(self, process: _Process, *, force: bool) -> None:
        name, pid, asks = process.tag.replica, process.pid, signal.Signals[process.tag.stop_signal]
        try:
            if force:
                await self._link.call("signal", name=name, signal=int(signal.SIGKILL), group=True)
            elif programs := await asyncio.to_thread(stopping.busy_shell_children, pid):
                await asyncio.to_thread(stopping.terminate, programs, pid, asks)
            else:
                await self._link.call("signal", name=name, signal=int(asks), group=False)
            if not force and await asyncio.to_thread(stopping.is_stopped, pid):
                # It would handle no signal before somebody continued it. Now it can finish what it has.
                await self._link.call("signal", name=name, signal=int(signal.SIGCONT), group=True)
        except KeeperError as error:
            if error.reason != "unknown":
                raise
            # It ends this moment: the keeper's event is on its way.

    def _wanting_ways_out(self) -> list[Inside]:
        return [
            Inside(replica=process.tag.replica, attempt=process.tag.attempt, pid=process.pid)
            for process in self._processes.values()
            if process.running and process.tag.way_out
        ]

    async def _leave_dead_network(self) -> None:
        """For replicas that hang on another mesh network than the one that there is."""
        if self._mesh.id:
            running = [process.tag for process in self._processes.values() if process.running]
            for tag in await self._stranded.find(running, self._mesh.id):
                self._prober.stop(tag.replica)

    async def _ask_to_end(self, tag: ReplicaTag, force: bool) -> None:
        process = self._processes.get(tag.replica)
        if process is not None and process.running and process.tag == tag:
            await self._signal(process, force=force)

    # --- what the keeper tells

    async def _on_event(self, event: dict[str, Any]) -> None:
        if self._mesh.heard(event) or self._ways_out.heard(event) or self._migrations.heard(event):
            return
        tag = tags.from_json(event.get("tag"))
        match event["event"]:
            case "spawned" if tag is not None:
                await self._spawned(_Process(tag=tag, pid=event["pid"], running=True))
            case "exited" if tag is not None:
                await self._exited(tag, event["pid"], event["exit_code"], left_behind=bool(event.get("left_behind")))
            case "spawned" if event["name"] in PROXIES:
                await self._proxy.spawned(event["name"], event["pid"])
            case "exited" if event["name"] in PROXIES:
                await self._proxy.exited(event["pid"], event["exit_code"])
            case _:
                pass  # the daemon's own, or of a later version

    async def _spawned(self, process: _Process) -> None:
        tag = process.tag
        self._processes[tag.replica] = process
        start = self._starts.get(tag.replica)
        if start is not None and start.attempt == tag.attempt:
            start.seen.set()
        await self._inbox.put(
            ev.ReplicaStarted(
                at=self._clock.now(),
                replica=tag.replica,
                attempt=tag.attempt,
                pid=process.pid,
                address=tag.address,
                ports=tag.addresses,
            )
        )
        self._probe(process)
        self._ways_out.settle()

    async def _exited(self, tag: ReplicaTag, pid: int, exit_code: int | None, *, left_behind: bool = False) -> None:
        known = self._processes.get(tag.replica)
        if known is not None and known.pid == pid and not known.running:
            return  # told already
        self._prober.stop(tag.replica)
        log = self._launcher.log_of(tag.service, tag.replica)
        at = self._clock.now()
        end = await asyncio.to_thread(endings.explain, tag, exit_code, log, at, left_behind=left_behind)
        end = self._stranded.ended(tag, end)
        # Not earlier: a stop would find no process, and an end without reasons would be told in place of this one.
        self._processes[tag.replica] = _Process(tag=tag, pid=pid, running=False, exit_code=exit_code)
        self._ways_out.settle()
        await self._inbox.put(ev.ReplicaExited(at=at, replica=tag.replica, attempt=tag.attempt, exit=end))

    # --- a keeper is lost and another found

    async def _on_lost(self, reason: str) -> None:
        await self._inbox.put(ev.KeeperLost(at=self._clock.now(), reason=reason))

    async def _on_found(self, listing: Listing) -> None:
        """Tells what changed while no keeper told us."""
        before = self._processes
        self._take_over(listing)
        after, self._processes = self._processes, dict(before)
        for replica, process in after.items():
            old = before.get(replica)
            if old is None or old.pid != process.pid:
                await self._spawned(_Process(tag=process.tag, pid=process.pid, running=True))
                old = None
            if not process.running and (old is None or old.running):
                await self._exited(process.tag, process.pid, process.exit_code)
        for replica, old in before.items():
            if old.running and replica not in after:
                await self._exited(old.tag, old.pid, None)
        self._migrations.take_over(listing)
        await self._proxy.reconcile(listing)
        self._mesh.take_over(listing)
        self._ways_out.take_over(listing)

    async def _on_up(self) -> None:
        try:
            await self._settle_with_the_new_keeper()
        except EngineError as error:
            # It died as well, and the next one settles; or it refuses, and what runs goes on without.
            message = f"the new keeper did not take over everything: {error.message}"
            await self._launcher.warn("daemon", message, error.way_out)

    async def _settle_with_the_new_keeper(self) -> None:
        self._mesh.revive()
        self._ways_out.settle()
        await self._leave_dead_network()
        await self._launcher.share_again()
        answer = await self._link.call("hello")
        if self._network is not None:
            wanted = self._network
            # The lease died with its keeper; Envoy's listeners still hold the addresses themselves.
            if await self.lease_network(prefer=wanted) != wanted:
                self._network = wanted
                message = f"another app leased 127.{wanted} while there was no keeper"
                await self._launcher.warn("app", message, "if names lead astray: shoal down, then shoal up")
        adopted = sum(process.running for process in self._processes.values())
        await self._inbox.put(ev.KeeperAttached(at=self._clock.now(), pid=answer["pid"], adopted=adopted))

    def _take_over(self, listing: Listing) -> None:
        self._processes = {}
        for row in listing:
            tag = tags.from_json(row.get("tag"))
            if tag is not None:
                self._processes[tag.replica] = _Process(
                    tag=tag, pid=row["pid"], running=row["running"], exit_code=row["exit_code"]
                )
                if row["running"] and tag.own_address is not None:
                    self._launcher.addresses.adopt(tag.replica, tag.own_address)
                elif row["running"] and isinstance(tag.address, TcpAddress):
                    self._launcher.ports.adopt(tag.replica, tag.address.port)
                for name, address in tag.addresses if row["running"] and tag.own_address is None else ():
                    if isinstance(address, TcpAddress):
                        self._launcher.ports.adopt(further_lease(tag.replica, name), address.port)

    def _probe(self, process: _Process, *, found: bool = False) -> None:
        """`found`: it ran before this daemon did."""
        tag = process.tag
        self._prober.start(
            Probed(
                replica=tag.replica,
                attempt=tag.attempt,
                pid=process.pid,
                address=tag.address,
                health=tag.health,
                startup=tag.startup,
                liveness=tag.liveness,
                restart_hung=tag.restart_hung,
                found=found,
                protocol=tag.protocol,
                ports=tag.ports,
                env=self._launcher.variables(tag, process.pid),
                folder=tag.folder,
                reach=Reach(holder=self._state.network_socket, pid=process.pid) if tag.own_address else None,
                eager=tag.eager,
            )
        )
