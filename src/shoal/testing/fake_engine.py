"""An engine without processes: replicas boot, crash, hang and end as they are told, on the running loop's time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from shoal.errors import EngineError
from shoal.model import event as ev
from shoal.model.app import App
from shoal.model.health import Probe
from shoal.model.replica import Address, Exit, UnixAddress
from shoal.model.world import Revision
from shoal.planner.defaults import FAILURES_TO_UNREADY, HUNG_S
from shoal.planner.probing import pace
from shoal.ports import Clock, Found, Inbox, Launch, Preparation


@dataclass(kw_only=True)
class Behaviour:
    """How the next process of a service behaves."""

    boot_s: float = 0.2
    """From its start to its first good answer."""
    fails_to_start: str = ""
    """Not empty: the engine reports this instead of a start."""
    crashes_after_s: float | None = None
    """Ends by itself, with `exit_code`, this long after its start."""
    exit_code: int = 1
    stop_s: float = 0.1
    """From SIGTERM to its end."""
    ignores_term: bool = False


@dataclass(kw_only=True)
class _Process:
    launch: Launch
    behaviour: Behaviour
    pid: int
    address: Address
    exit_code: int | None = None
    running: bool = True
    started: bool = False
    """Has answered a probe of this daemon."""
    watches: int = 0
    """How many daemons have probed it; only the last one's probes count."""
    hung: bool = False
    """Answers nobody any more."""
    told_by: int | None = None
    """Which of the daemons that probed it, by `watches`, is being told that it hangs."""
    condemned: bool = False
    """Its liveness or startup probe has failed so often that it is to be restarted."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class FakeEngine:
    """Implements `ports.Engine`. `behave(launch)` is asked at each start; `seen` hears each request first.
    `prepares` gives the words with which a revision cannot be made ready."""

    def __init__(
        self,
        inbox: Inbox,
        clock: Clock,
        *,
        behave: Callable[[Launch], Behaviour] = lambda launch: Behaviour(),
        seen: Callable[[str, str], None] = lambda verb, subject: None,
        prepares: Callable[[Preparation], str] = lambda preparation: "",
    ) -> None:
        self.inbox = inbox
        self.processes: dict[str, _Process] = {}
        self.proxy_pid: int | None = None
        self.sources: dict[str, str] = {}
        self.trees: dict[str, dict[str, str]] = {}
        """What `files` tells, by source."""
        self.collected: list[tuple[str, int]] = []
        """What `collect` was told to keep: services and revisions."""
        self._clock = clock
        self._behave = behave
        self._seen = seen
        self._prepares = prepares
        self.prepare_s = 0.05
        self._next_pid = 1000
        self._keeper_gone = False
        self._untold: list[tuple[_Process, float]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # --- ports.Engine

    async def start(self, launch: Launch) -> None:
        self._seen("start", launch.replica)
        self._ask_keeper()
        old = self.processes.get(launch.replica)
        if old is not None and old.running:
            if old.launch.attempt == launch.attempt:
                return
            raise EngineError(f"{launch.replica} still runs its attempt {old.launch.attempt}")
        behaviour = self._behave(launch)
        now = self._clock.now()
        if behaviour.fails_to_start:
            end = Exit(at=now, error=behaviour.fails_to_start)
            await self.inbox.put(ev.ReplicaExited(at=now, replica=launch.replica, attempt=launch.attempt, exit=end))
            return
        self._next_pid += 1
        process = _Process(
            launch=launch,
            behaviour=behaviour,
            pid=self._next_pid,
            address=UnixAddress(path=f"/run/{launch.replica}.sock"),
        )
        self.processes[launch.replica] = process
        await self.inbox.put(
            ev.ReplicaStarted(
                at=now,
                replica=launch.replica,
                attempt=launch.attempt,
                pid=process.pid,
                address=process.address,
            )
        )
        self._later(process, behaviour.boot_s, self._answers)
        if behaviour.crashes_after_s is not None:
            self._later(process, behaviour.crashes_after_s, self._ends_by_itself)

    async def stop(self, replica: str, *, force: bool) -> bool:
        self._seen("kill" if force else "stop", replica)
        self._ask_keeper()
        process = self.processes.get(replica)
        if process is None or not process.running:
            return False
        if force:
            await self._end(process, -9)
        elif not process.behaviour.ignores_term:
            self._later(process, process.behaviour.stop_s, self._ends_by_term)
        return True

    async def snapshot(self, app: App, *, keep: bool) -> Mapping[str, str]:
        """Every source tree is as `sources` says, by service; those that it does not name run from the working tree."""
        return {s.name: self.sources[s.name] for s in app.services if s.name in self.sources}

    async def prepare(self, preparation: Preparation) -> None:
        revision = preparation.revision
        self._seen("prepare", f"{revision.service.name}@{revision.number}")
        self._ask_keeper()
        await asyncio.sleep(self.prepare_s)
        if error := self._prepares(preparation):
            raise EngineError(error, detail="the log's last line")

    async def files(self, source: str) -> Mapping[str, str]:
        return self.trees.get(source, {})

    async def collect(self, revisions: Collection[Revision]) -> None:
        self.collected = [(revision.service.name, revision.number) for revision in revisions]

    async def observe(self) -> Sequence[Found]:
        """Running ones answer their probes again: their first good answers may have been lost with an earlier inbox."""
        for process in self.processes.values():
            if process.running:
                process.started = False
                process.watches += 1
                self._later(process, process.behaviour.boot_s, self._watched(process))
        return [
            Found(
                replica=p.launch.replica,
                attempt=p.launch.attempt,
                pid=p.pid if p.running else None,
                address=p.address,
                running=p.running,
                exit_code=p.exit_code,
            )
            for p in self.processes.values()
        ]

    async def forget(self, replica: str) -> None:
        process = self.processes.get(replica)
        if process is not None and not process.running:
            del self.processes[replica]

    async def start_proxy(self) -> None:
        self._seen("start", "proxy")
        if self.proxy_pid is None:
            self._next_pid += 1
            self.proxy_pid = self._next_pid
            await self.inbox.put(ev.ProxyStarted(at=self._clock.now(), pid=self.proxy_pid))

    async def replace_proxy(self) -> None:
        self._seen("replace", "proxy")
        if self.proxy_pid is not None:
            self._next_pid += 1
            self.proxy_pid = self._next_pid
            await self.inbox.put(ev.ProxyReplaced(at=self._clock.now(), pid=self.proxy_pid))

    async def stop_proxy(self) -> None:
        self._seen("stop", "proxy")
        await self.proxy_ends(0)

    async def observe_proxy(self) -> int | None:
        return self.proxy_pid

    # --- what a test makes happen

    async def crash(self, replica: str, code: int = -9) -> None:
        process = self.processes.get(replica)
        if process is not None and process.running:
            await self._end(process, code)

    async def hang(self, replica: str) -> None:
        """Answers no probe from now on, and no SIGTERM."""
        process = self.processes.get(replica)
        if process is None or not process.running or process.hung:
            return
        process.hung = process.behaviour.ignores_term = True
        await self._tell_unready(process, "no answer in 1 s")
        self._later(process, 0.0, self._hangs)

    async def get_unready(self, replica: str, for_s: float) -> None:
        """Says no to its readiness probe for a while; it lives."""
        process = self.processes.get(replica)
        if process is None or not process.running or process.hung:
            return
        await self._tell_unready(process, "HTTP 503 on /healthz")
        self._later(process, for_s, self._answers)

    def keeper_dies(self) -> None:
        """Nothing can be asked and no end is told until it returns; what runs, runs on."""
        self._keeper_gone = True

    async def keeper_returns(self) -> None:
        """A new one: it knows who ended meanwhile, and of none the exit code."""
        self._keeper_gone = False
        untold, self._untold = self._untold, []
        for process, at in untold:
            process.exit_code = None
            await self._tell_end(process, at)

    async def proxy_ends(self, code: int) -> None:
        self.proxy_pid = None
        now = self._clock.now()
        await self.inbox.put(ev.ProxyExited(at=now, exit=Exit(at=now, code=code)))

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    # --- inside

    def _ask_keeper(self) -> None:
        if self._keeper_gone:
            raise EngineError("the keeper does not answer")

    def _later(self, process: _Process, delay_s: float, then: Callable[[_Process], object]) -> None:
        async def wait() -> None:
            await asyncio.sleep(delay_s)
            if process.running:
                await then(process)  # type: ignore[misc]

        task = asyncio.get_running_loop().create_task(wait(), name=f"{process.launch.replica} later")
        for group in (self._tasks, process.tasks):
            group.add(task)
            task.add_done_callback(group.discard)

    def _watched(self, process: _Process) -> Callable[[_Process], Awaitable[None]]:
        """What its probes will say, unless a later daemon asks by then: two that ask would count each failure twice."""
        mine = process.watches

        async def probed(process: _Process) -> None:
            if process.watches == mine:
                await (self._hangs(process) if process.hung else self._answers(process))

        return probed

    async def _answers(self, process: _Process) -> None:
        if process.hung:
            return
        process.started = True
        startup = process.launch.revision.service.startup
        for probe in (Probe.STARTUP, Probe.READINESS) if startup else (Probe.READINESS,):
            await self.inbox.put(
                ev.ProbeSucceeded(
                    at=self._clock.now(), replica=process.launch.replica, attempt=process.launch.attempt, probe=probe
                )
            )

    async def _tell_unready(self, process: _Process, detail: str) -> None:
        for _ in range(FAILURES_TO_UNREADY):
            await self._put_failure(process, Probe.READINESS, FAILURES_TO_UNREADY, detail)

    async def _hangs(self, process: _Process) -> None:
        """What its probes say of one that hangs, until it is to be restarted."""
        service, mine = process.launch.revision.service, process.watches
        if process.told_by == mine:
            return  # it hung between two probes of one daemon, which asks once
        process.told_by = mine
        await self._tell_unready(process, "no answer in 1 s")
        starts = service.startup is not None and not process.started
        probe, check = (Probe.STARTUP, service.startup) if starts else (Probe.LIVENESS, service.liveness)
        if check is not None:
            numbers = pace(check, probe)
            for left in reversed(range(numbers.failures)):
                await asyncio.sleep(numbers.interval_s)
                if process.watches != mine:
                    return
                process.condemned |= left == 0
                await self._put_failure(process, probe, numbers.failures, "no answer in 1 s")
        elif service.restart_hung:
            await asyncio.sleep(HUNG_S)
            if process.watches != mine:
                return
            process.condemned = True
            await self._put_failure(process, probe, 1, f"no answer at all in {HUNG_S:g} s")

    async def _put_failure(self, process: _Process, probe: Probe, of: int, detail: str) -> None:
        if process.running:
            now, replica, attempt = self._clock.now(), process.launch.replica, process.launch.attempt
            failed = ev.ProbeFailed(at=now, replica=replica, attempt=attempt, detail=detail, probe=probe, of=of)
            await self.inbox.put(failed)

    async def _ends_by_itself(self, process: _Process) -> None:
        await self._end(process, process.behaviour.exit_code)

    async def _ends_by_term(self, process: _Process) -> None:
        await self._end(process, 0)

    async def _end(self, process: _Process, code: int) -> None:
        process.running, process.exit_code = False, code
        if self._keeper_gone:
            self._untold.append((process, self._clock.now()))
        else:
            await self._tell_end(process, self._clock.now())

    async def _tell_end(self, process: _Process, at: float) -> None:
        await self.inbox.put(
            ev.ReplicaExited(
                at=at,
                replica=process.launch.replica,
                attempt=process.launch.attempt,
                exit=Exit(at=at, code=process.exit_code),
            )
        )
