"""The local engine: replicas and Envoy as processes of the keeper."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal.engines.local import endings, names, stopping, tags, taken
from shoal.engines.local.keeper import unparented
from shoal.engines.local.keeper_client import KeeperError
from shoal.engines.local.keeper_link import KeeperLink, Listing
from shoal.engines.local.launching import Launcher, Prepared
from shoal.engines.local.prober import Probed, Prober
from shoal.engines.local.tags import ReplicaTag
from shoal.errors import EngineError, ShoalError
from shoal.model import event as ev
from shoal.model.app import App
from shoal.model.replica import Address, Exit, TcpAddress
from shoal.model.status import ExecContext
from shoal.model.topology import EdgeMap
from shoal.paths import StateFolder
from shoal.ports import Clock, Found, Inbox, Launch

PROXY = "envoy"
PROXY_STOP_S = 5.0
"""From SIGTERM to SIGKILL. Envoy ends at once; one that hangs must not hold up `shoal down`."""

ProxyLaunch = Callable[[], tuple[Sequence[str], dict[str, str]]]


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

    launch: Launch
    work: asyncio.Task[None]
    given_up: bool = False
    spawning: bool = False
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
        restart_keeper: Callable[[], Awaitable[None]],
        launcher: Launcher,
    ) -> None:
        self._state = state
        self._inbox = inbox
        self._clock = clock
        self._proxy_launch = proxy_launch
        self._launcher = launcher
        self._processes: dict[str, _Process] = {}
        self._starts: dict[str, _Start] = {}
        self._proxy_pid: int | None = None
        self._proxy_started_at = 0.0
        self._network: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._prober = Prober(inbox.put, now=clock.now)
        self._link = KeeperLink(
            state.keeper_socket,
            restart_keeper,
            on_event=self._on_event,
            on_lost=self._on_lost,
            on_found=self._on_found,
            on_up=self._on_up,
        )

    @classmethod
    async def connect(
        cls,
        state: StateFolder,
        *,
        inbox: Inbox,
        clock: Clock,
        proxy_launch: ProxyLaunch,
        restart_keeper: Callable[[], Awaitable[None]],
        python: Path | None = None,
    ) -> LocalEngine:
        """Attaches to the keeper that answers on `state.keeper_socket`; finds out whether services can have names.

        `proxy_launch` gives Envoy's argv and environment; `restart_keeper` starts a keeper unless one answers;
        `python`: makes the services' environments. NotRunningError: no keeper.
        """
        # With `-m` the daemon's own interpreter; a bare name would be looked up in the keeper's PATH.
        launcher = Launcher(state, inbox=inbox, clock=clock, python=python or Path(sys.executable))
        engine = cls(
            state,
            inbox=inbox,
            clock=clock,
            proxy_launch=proxy_launch,
            restart_keeper=restart_keeper,
            launcher=launcher,
        )
        engine._take_over(await engine._link.open())
        launcher.named, launcher.names_reason = await asyncio.to_thread(names.detect)
        if not launcher.named:
            await launcher.warn("app", "services find each other by variables only", launcher.names_reason)
        return engine

    @property
    def names_mode(self) -> str:
        """`names` (private hosts files) or `env`."""
        return "names" if self._launcher.named else "env"

    @property
    def names_reason(self) -> str:
        """Why it is `env`; empty otherwise."""
        return self._launcher.names_reason

    async def run(self) -> None:
        """Reports what happens, for ever. A keeper that dies is replaced, and what runs is found again."""
        await self._link.run()

    async def close(self) -> None:
        """Ends the engine's own tasks; touches no process."""
        await self._prober.close()
        own = [*self._tasks, *(start.work for start in self._starts.values())]
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)
        await self._link.close()

    async def lease_network(self, *, prefer: int = 77, avoid: Collection[int] = ()) -> int:
        """The second byte of this app's addresses, its own as long as a keeper lives. EngineError: all are taken."""
        answer = await self._link.call("lease_network", prefer=prefer, avoid=list(avoid))
        network: int = answer["network"]
        self._network = network
        return network

    async def shutdown_keeper(self) -> None:
        """The keeper ends when nothing but the daemon runs any more, and that has ended too."""
        await self._link.call("shutdown")

    def exec_context(self, app: App, edges: EdgeMap, service: str) -> ExecContext:
        """What a command needs to run as if it were part of the service. KeyError: no such service; EngineError."""
        return self._launcher.exec_context(app, edges, app.service(service))

    def check_ports(self, app: App) -> list[str]:
        """One line for each port that the app needs on this machine and others hold. Reads /proc: some 10 ms."""
        own = {process.pid for process in self._processes.values() if process.running}
        return taken.taken_ports(app, own | ({self._proxy_pid} if self._proxy_pid is not None else set()))

    # --- ports.Engine: replicas

    async def start(self, launch: Launch) -> None:
        known = self._processes.get(launch.replica)
        if known is not None and known.running:
            if known.tag.attempt == launch.attempt:
                return
            raise EngineError(f"{launch.replica} still runs its attempt {known.tag.attempt}")
        if launch.replica in self._starts:
            return
        work = asyncio.create_task(self._start(launch), name=f"prepare {launch.replica}")
        start = self._starts[launch.replica] = _Start(launch=launch, work=work)
        try:
            await work
        except asyncio.CancelledError:
            if not start.given_up:
                work.cancel()
                raise
            await self._failed(launch, "its start was given up")
        except ShoalError as error:
            await self._failed(launch, str(error), error.detail)
        finally:
            del self._starts[launch.replica]

    async def stop(self, replica: str, *, force: bool) -> bool:
        start = self._starts.get(replica)
        if start is not None and not start.spawning:
            start.given_up = True
            start.work.cancel()
            return True
        if start is not None:
            start.given_up, start.force = True, force
            return True
        process = self._processes.get(replica)
        if process is None or not process.running:
            return False
        try:
            await self._signal(process, force=force)
        except KeeperError as error:
            if error.reason != "unknown":
                raise
            # It ends this moment: the keeper's event is on its way.
        return True

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
                    running=process.running,
                    exit_code=process.exit_code,
                )
            )
            if process.running:
                self._probe(process)
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
        self._launcher.release(replica, service, {p.tag.hosts for p in self._processes.values() if p.tag.hosts})

    # --- ports.Engine: the proxy

    async def start_proxy(self) -> None:
        if self._proxy_pid is not None:
            return
        try:
            argv, env = self._proxy_launch()
            if not os.access(argv[0], os.X_OK):
                raise EngineError(f"{argv[0]} is not there, or no program", way_out="name one in SHOAL_ENVOY")
            self._proxy_started_at = self._clock.now()
            await self._link.call(
                "spawn",
                name=PROXY,
                argv=[sys.executable, "-I", "-S", unparented.__file__, *argv],
                env=env,
                cwd=str(self._state.root),
                log=str(self._proxy_log),
                tag={"kind": "proxy", "asked_at": self._proxy_started_at},
                namespace=None,
            )
        except ShoalError as error:
            if isinstance(error, KeeperError) and error.reason == "exists":
                return
            now = self._clock.now()
            end = Exit(at=now, error=str(error), tail=tuple(error.detail.splitlines()[-20:]))
            await self._inbox.put(ev.ProxyExited(at=now, exit=end))

    async def stop_proxy(self) -> None:
        try:
            await self._link.call("signal", name=PROXY, signal=int(signal.SIGTERM), group=False)
        except KeeperError:
            if self._proxy_pid is None:
                now = self._clock.now()
                await self._inbox.put(ev.ProxyExited(at=now, exit=Exit(at=now, error="there was no process")))
            return
        self._spawn_task(self._kill_proxy(self._proxy_pid), "kill proxy")

    async def observe_proxy(self) -> int | None:
        return self._proxy_pid

    async def _kill_proxy(self, pid: int | None) -> None:
        await asyncio.sleep(PROXY_STOP_S)
        if pid is not None and self._proxy_pid == pid:
            try:
                await self._link.call("signal", name=PROXY, signal=int(signal.SIGKILL), group=True)
            except EngineError:
                pass  # it has just ended, or a new keeper will be asked again

    # --- a start

    async def _start(self, launch: Launch) -> None:
        prepared = await self._launcher.prepare(launch)
        start = self._starts[launch.replica]
        start.spawning = True
        try:
            await self._spawn(launch, prepared)
        except KeeperError as error:
            if error.reason != "namespace-failed":
                raise
            await self._launcher.lose_names(error.message)
            await self._spawn(launch, await self._launcher.prepare(launch))
        process = self._processes.get(launch.replica)
        if start.given_up and process is not None and process.running:
            await self._signal(process, force=start.force)

    async def _spawn(self, launch: Launch, prepared: Prepared) -> None:
        """The keeper's event `spawned`, which comes before its answer, is what is reported: so that an exit, however
        quick, is reported after it."""
        try:
            await self._link.call("spawn", name=launch.replica, **prepared.request)
        except KeeperError as error:
            if error.reason != "exists":
                raise
            # Asked twice: the first keeper died between doing and answering.

    async def _signal(self, process: _Process, *, force: bool) -> None:
        name = process.tag.replica
        if force:
            await self._link.call("signal", name=name, signal=int(signal.SIGKILL), group=True)
            return
        waited_for = await asyncio.to_thread(stopping.busy_shell_children, process.pid)
        if waited_for:
            await asyncio.to_thread(stopping.terminate, waited_for, process.pid)
        else:
            await self._link.call("signal", name=name, signal=int(signal.SIGTERM), group=False)

    async def _failed(self, launch: Launch, error: str, detail: str = "") -> None:
        now = self._clock.now()
        end = Exit(at=now, error=error, tail=tuple(detail.splitlines()[-20:]))
        await self._inbox.put(ev.ReplicaExited(at=now, replica=launch.replica, attempt=launch.attempt, exit=end))

    # --- what the keeper tells

    async def _on_event(self, event: dict[str, Any]) -> None:
        tag = tags.from_json(event.get("tag"))
        match event["event"]:
            case "spawned" if tag is not None:
                await self._spawned(_Process(tag=tag, pid=event["pid"], running=True))
            case "exited" if tag is not None:
                await self._exited(tag, event["pid"], event["exit_code"])
            case "spawned" if event["name"] == PROXY:
                await self._proxy_spawned(event["pid"])
            case "exited" if event["name"] == PROXY:
                await self._proxy_exited(event["pid"], event["exit_code"])
            case _:
                pass  # the daemon's own, or of a later version

    async def _spawned(self, process: _Process) -> None:
        tag = process.tag
        self._processes[tag.replica] = process
        await self._inbox.put(
            ev.ReplicaStarted(
                at=self._clock.now(), replica=tag.replica, attempt=tag.attempt, pid=process.pid, address=tag.address
            )
        )
        self._probe(process)

    async def _exited(self, tag: ReplicaTag, pid: int, exit_code: int | None) -> None:
        known = self._processes.get(tag.replica)
        if known is not None and known.pid == pid and not known.running:
            return  # told already
        self._processes[tag.replica] = _Process(tag=tag, pid=pid, running=False, exit_code=exit_code)
        self._prober.stop(tag.replica)
        log = self._launcher.log_of(tag.service, tag.replica)
        at = self._clock.now()
        end = await asyncio.to_thread(endings.explain, tag, exit_code, log, at)
        await self._inbox.put(ev.ReplicaExited(at=at, replica=tag.replica, attempt=tag.attempt, exit=end))

    async def _proxy_spawned(self, pid: int) -> None:
        self._proxy_pid = pid
        await self._inbox.put(ev.ProxyStarted(at=self._clock.now(), pid=pid))

    async def _proxy_exited(self, pid: int, exit_code: int | None) -> None:
        if self._proxy_pid not in (None, pid):
            return
        self._proxy_pid = None
        at = self._clock.now()
        last = await asyncio.to_thread(endings.last_lines, self._proxy_log, self._proxy_started_at)
        await self._inbox.put(ev.ProxyExited(at=at, exit=Exit(at=at, code=exit_code, tail=last)))

    # --- a keeper is lost and another found

    async def _on_lost(self, reason: str) -> None:
        await self._inbox.put(ev.KeeperLost(at=self._clock.now(), reason=reason))

    async def _on_found(self, listing: Listing) -> None:
        """Tells what changed while no keeper told us."""
        before, proxy_before = self._processes, self._proxy_pid
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
        if proxy_before is not None and self._proxy_pid != proxy_before:
            pid, self._proxy_pid = self._proxy_pid, proxy_before
            await self._proxy_exited(proxy_before, None)
            if pid is not None:
                await self._proxy_spawned(pid)

    async def _on_up(self) -> None:
        try:
            await self._settle_with_the_new_keeper()
        except EngineError as error:
            # It died as well, and the next one settles; or it refuses, and what runs goes on without.
            message = f"the new keeper did not take over everything: {error.message}"
            await self._launcher.warn("daemon", message, error.way_out)

    async def _settle_with_the_new_keeper(self) -> None:
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
        self._proxy_pid = None
        for row in listing:
            tag = tags.from_json(row.get("tag"))
            if tag is not None:
                self._processes[tag.replica] = _Process(
                    tag=tag, pid=row["pid"], running=row["running"], exit_code=row["exit_code"]
                )
                if row["running"] and isinstance(tag.address, TcpAddress):
                    self._launcher.ports.adopt(tag.replica, tag.address.port)
            elif row["name"] == PROXY and row["running"]:
                self._proxy_pid = row["pid"]
                self._proxy_started_at = row.get("started_at") or 0.0

    # --- helpers

    def _probe(self, process: _Process) -> None:
        tag = process.tag
        address: Address | None = tag.address
        self._prober.start(
            Probed(replica=tag.replica, attempt=tag.attempt, pid=process.pid, address=address, health=tag.health)
        )

    @property
    def _proxy_log(self) -> Path:
        return self._state.logs / f"{PROXY}.log"

    def _spawn_task(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
