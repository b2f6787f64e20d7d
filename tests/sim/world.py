"""One simulated life of an app: the real controller, planner and routing in a made-up world.

Everything is drawn from one seed. While faults happen the safety of each step is checked; then faults stop, and within
five minutes of virtual time the world must be as wanted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from shoal.control.commands import Commands
from shoal.control.controller import Controller
from shoal.control.inbox import Inbox
from shoal.control.journal import Feed
from shoal.control.routing import Routing
from shoal.control.status import SETTLED, Identity
from shoal.errors import ShoalError, StoreError
from shoal.mesh.compile import MeshOptions
from shoal.mesh.snapshot import Snapshot
from shoal.model.app import App, Restart
from shoal.model.draining import Draining
from shoal.model.policy import RolloutPolicy
from shoal.model.replica import Replica, ReplicaState
from shoal.model.rollout import RolloutState
from shoal.model.status import ExecContext, Health
from shoal.model.world import Desired, Revision
from shoal.planner.defaults import DETACH_S_MAX
from shoal.ports import Drained, JournalEntry, Launch, Preparation
from shoal.testing import apps
from shoal.testing.fake_drains import FakeDrains
from shoal.testing.fake_engine import Behaviour, FakeEngine
from shoal.testing.fake_meter import FakeMeter
from shoal.testing.fake_sink import FakeSink
from shoal.testing.memory_store import MemoryStore
from shoal.testing.virtual_time import VirtualClock, run
from tests.sim import canaries, health, requests

CHAOS_S = 120.0
SETTLE_S = 300.0
OPTIONS = MeshOptions(mesh_socket="/run/mesh.sock")


class InvariantError(AssertionError):
    """The world did what it never may."""


class Killed(BaseException):
    """kill -9 of the daemon, at this very step. Not an Exception: nothing in the daemon may handle it."""


class MortalStore(MemoryStore):
    """A store whose daemon may die right before and right after each write."""

    def __init__(
        self, fault: Callable[[str], None], after: Callable[[str], None], noted: Callable[[str, str, str], None]
    ) -> None:
        super().__init__(fault=fault)
        self._after = after
        self._noted = noted

    def append(self, at: float, kind: str, subject: str, message: str, data: dict[str, object]) -> JournalEntry:
        entry = super().append(at, kind, subject, message, data)
        self._noted(kind, subject, message)
        return entry

    def save_desired(self, desired: Desired) -> None:
        super().save_desired(desired)
        self._after("save_desired")

    def save_replica(self, replica: Replica) -> None:
        super().save_replica(replica)
        self._after("save_replica")

    def delete_replica(self, replica: str) -> None:
        super().delete_replica(replica)
        self._after("delete_replica")

    def add_revision(self, revision: Revision) -> None:
        super().add_revision(revision)
        self._after("add_revision")


@dataclass
class _Draw:
    """What this seed is like: each fault is at home in some seeds and absent in others (swarm testing)."""

    rng: random.Random
    crashes: float = field(init=False)
    hangs: float = field(init=False)
    start_failures: float = field(init=False)
    slow_boots: float = field(init=False)
    store_failures: float = field(init=False)
    envoy_lag_s: float = field(init=False)
    envoy_crashes: float = field(init=False)
    daemon_crashes: float = field(init=False)
    deaths_by_step: float = field(init=False)
    keeper_crashes: float = field(init=False)
    refusals: float = field(init=False)
    preparations: float = field(init=False)

    def __post_init__(self) -> None:
        def chance(top: float) -> float:
            return self.rng.choice([0.0, 0.0, top / 4, top])

        self.crashes = chance(0.3)
        self.hangs = chance(0.2)
        self.start_failures = chance(0.3)
        self.slow_boots = chance(0.5)
        self.store_failures = chance(0.2)
        self.envoy_lag_s = self.rng.choice([0.001, 0.01, 0.5, 3.0])
        self.envoy_crashes = chance(0.1)
        self.daemon_crashes = chance(0.2)
        self.deaths_by_step = chance(0.02)
        self.keeper_crashes = chance(0.1)
        self.refusals = chance(0.1)
        self.preparations = chance(0.3)


class World:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.draw = _Draw(self.rng)
        self.faults = True
        self.clock = VirtualClock()
        self.inbox = Inbox()
        self.store = MortalStore(self._store_fault, self._step, self._noted)
        self.engine = FakeEngine(
            self.inbox, self.clock, behave=self._behave, seen=self._engine_seen, prepares=self._prepares
        )
        self.requests = requests.Requests(self.rng, self.clock)
        self.sink = self._sink()
        self.drains = self._drains()
        self.meter = FakeMeter(self.inbox, self.clock)
        self.traffic = canaries.Traffic(self.rng)
        self.controller = self._controller()
        self.attached = asyncio.Event()
        """Whether the daemon answers: its API opens once it knows what runs."""
        self.wanted: dict[str, int] = {}
        self.history: list[str] = []

    # --- the parts' behaviour

    def _controller(self) -> Controller:
        return Controller(
            inbox=self.inbox,
            store=self.store,
            engine=self.engine,
            sink=self.sink,
            clock=self.clock,
            routing=Routing(OPTIONS),
            network=77,
            feed=Feed(),
            revisions_kept=2,
            drains=self.drains,
            meter=self.meter,
        )

    def _drains(self) -> FakeDrains:
        return FakeDrains(self.inbox, self.clock, self._under_way)

    def _under_way(self, drained: Drained) -> int | None:
        return None if self._hit(self.draw.hangs) else self.requests.under_way(drained.replica)

    def _sink(self) -> FakeSink:
        return FakeSink(
            self.inbox,
            self.clock,
            lag_s=self._lag,
            connected=lambda: self.engine.proxy_pid is not None,
            seen=self._published,
            refuses=self._refusal,
        )

    def _commands(self) -> Commands:
        return Commands(
            self.controller,
            store=self.store,
            clock=self.clock,
            identity=lambda: Identity(folder="/app", version="0", pid=1, names="names", names_reason=""),
            check_ports=lambda app: [],
            context=lambda desired, service: ExecContext(env={}, folder="/", hosts=None, nsswitch=None),
        )

    def _hit(self, probability: float) -> bool:
        return self.faults and self.rng.random() < probability

    def _step(self, where: str) -> None:
        """Between any two steps of the daemon it may be killed."""
        if self.attached.is_set() and self._hit(self.draw.deaths_by_step):
            raise Killed(where)

    def _refusal(self) -> str:
        return "lacks a field" if self._hit(self.draw.refusals) else ""

    def _store_fault(self, method: str) -> None:
        self._step(method)
        # Reads happen when a daemon starts, which then gives up and is started again: nothing to learn here.
        if method.startswith(("save", "add", "delete", "append", "lease")) and self._hit(self.draw.store_failures):
            raise StoreError(f"{method}: disk full", way_out="free some room")

    def _behave(self, launch: Launch) -> Behaviour:
        crashes = self._hit(self.draw.crashes)
        completes = launch.revision.service.restart is not Restart.ALWAYS and self.rng.random() < 0.7
        return Behaviour(
            boot_s=self.rng.uniform(1, 40) if self._hit(self.draw.slow_boots) else self.rng.uniform(0.05, 1),
            fails_to_start="no such file: x" if self._hit(self.draw.start_failures) else "",
            crashes_after_s=self.rng.uniform(0, 30) if crashes or completes else None,
            exit_code=self.rng.choice([0, 1, -11]) if crashes else 0,
            stop_s=self.rng.uniform(0, 12),
            ignores_term=self._hit(self.draw.hangs),
        )

    def _prepares(self, preparation: Preparation) -> str:
        return "npm ci failed" if self._hit(self.draw.preparations) else ""

    def _lag(self) -> float:
        return self.rng.uniform(0, self.draw.envoy_lag_s) if self.faults else 0.002

    # --- safety, at every step

    def _engine_seen(self, verb: str, subject: str) -> None:
        self._step(f"{verb} {subject}")
        if subject == "proxy":
            if verb == "start":
                self.sink.reconnect()
            return
        if verb == "start":
            stored = {r.id: r for r in self.store._replicas.values()}
            if subject not in stored:
                raise InvariantError(f"{subject} is started, and the store does not know it")
        if verb in ("stop", "kill") and (broken := health.broken(self.controller.observed, self.engine, subject)):
            raise InvariantError(broken)
        if verb == "stop" and self.engine.proxy_pid is not None:
            broken = requests.broken(self.requests, self.controller.desired, self.controller.observed, subject)
            if broken:
                raise InvariantError(broken)
        hurried = self.controller.desired is not None and self.controller.desired.hurry
        if verb == "stop" and subject in self.sink.routes_to and self.engine.proxy_pid is not None and not hurried:
            replica = self.controller.observed.replicas[subject]
            drained_for = self.clock.now() - (replica.since if replica.state in health.OUT else 0)
            told = next((n for n in reversed(self.history) if n.startswith(f"drain {subject} ")), f"drain {subject} 0")
            waited = self.clock.now() - float(told.rsplit(" ", 1)[1])
            if min(waited, drained_for) < DETACH_S_MAX:
                raise InvariantError(f"{subject} is stopped while Envoy routes to it ({waited:.3f} s after its drain)")

    def _published(self, snapshot: Snapshot) -> None:
        observed = self.controller.observed
        for replica in snapshot.replicas:
            if observed.replicas[replica].state is not ReplicaState.READY:
                raise InvariantError(f"{replica} gets traffic and is {observed.replicas[replica].state}")
        if wrong := canaries.broken(snapshot, self.controller.desired):
            raise InvariantError(wrong)
        for replica in observed.replicas.values():
            if replica.state in health.OUT:
                self.history.append(f"drain {replica.id} {replica.since}")

    def _check_world(self) -> None:
        known = {r.id for r in self.store._replicas.values()}
        strangers = [p for p, process in self.engine.processes.items() if process.running and p not in known]
        if strangers:
            raise InvariantError(f"run without a record: {strangers}")
        revisions = {(service, number) for service, known in self.store._revisions.items() for number in known}
        if lost := [r.id for r in self.store._replicas.values() if (r.service, r.revision) not in revisions]:
            raise InvariantError(f"their revision was collected: {lost}")

    def _noted(self, kind: str, subject: str, message: str) -> None:
        """Rolling out: never more than the surge allows, and nobody who serves leaves while too few do."""
        replica = self.controller.observed.replicas.get(subject)
        desired = self.controller.desired
        if replica is None or desired is None or desired.down or replica.service not in desired.targets:
            return
        target = desired.targets[replica.service]
        policy = target.service.rollout
        there = [r for r in self.controller.observed.of(replica.service) if not r.leaving]
        if kind == "ReplicaScheduled" and replica.attempt == 1 and len(there) > target.replicas + policy.surge:
            raise InvariantError(f"{subject} is one of {len(there)}, {target.replicas} + {policy.surge} may be")
        trying = target.rollout is not None and target.rollout.state is RolloutState.CANARY
        makes_room = trying and "are wanted" in message and replica.ready_since is not None
        if kind == "DrainStarted" and ("is replaced" in message or makes_room):
            serving = sum(r.state in (ReplicaState.READY, ReplicaState.COMPLETED) for r in there)
            if serving < target.replicas - policy.unavailable:
                raise InvariantError(f"{subject} leaves, and {serving} of {target.replicas} serve")

    # --- one life

    async def live(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            keeper = tasks.create_task(self._keeper())
            requests = tasks.create_task(self._requests())
            await self._deploy(self._draw_app())
            end = self.clock.now() + CHAOS_S
            while self.clock.now() < end:
                await asyncio.sleep(self.rng.expovariate(1.0))
                await self._something_happens()
                self._check_world()
            self.faults = False
            await self._settle()
            await self._down(keeper)
            requests.cancel()
            self.engine.close()

    async def _requests(self) -> None:
        """As Envoy counts them, and the daemon asks it, while it watches somebody."""
        while True:
            await asyncio.sleep(canaries.SAMPLE_S)
            if self.meter.watched and self.attached.is_set():
                self.traffic.flow(self.meter, canaries.shares(self.sink.newest), self.faults)
                await self.inbox.put(self.meter.sample())

    async def _keeper(self) -> None:
        """Starts the daemon, and another when it dies: nothing it had in memory is left, what ran runs on."""
        while True:
            self._daemon = asyncio.create_task(self._run_daemon())
            await asyncio.wait([self._daemon])
            self.attached.clear()
            if not self._daemon.cancelled() and self._daemon.exception() is None:
                return
            if not self._daemon.cancelled() and not _was_killed(self._daemon.exception()):
                await self._daemon  # raises
            await asyncio.sleep(self.rng.uniform(0, 2))
            self.inbox = self.engine.inbox = self.meter.inbox = Inbox()
            self.meter.watched = frozenset()
            routes_to = self.sink.routes_to
            self.sink = self._sink()
            self.drains = self._drains()
            self.sink.routes_to = routes_to  # Envoy goes on with what it had
            self.controller = self._controller()

    async def _run_daemon(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            stream = tasks.create_task(self.sink.run())
            counting = tasks.create_task(self.drains.run())
            while True:
                try:
                    await self.controller.attach()
                    break
                except StoreError:
                    # As a daemon that cannot read its state: it ends, and its keeper starts another.
                    await asyncio.sleep(0.1)
                    self.controller = self._controller()
            self.attached.set()
            await self.controller.run()
            stream.cancel()
            counting.cancel()

    async def _something_happens(self) -> None:
        replica = self.rng.choice(sorted(self.engine.processes) or ["none"])
        await self._somebody_asks()
        if self._hit(self.draw.crashes):
            await self.engine.crash(replica)
        if self._hit(self.draw.hangs):
            await health.disturb(self.rng, self.engine, self.controller.observed, replica)
        if self._hit(self.draw.envoy_crashes) and self.engine.proxy_pid is not None:
            self.sink.routes_to = frozenset()
            self.meter.counters.clear()
            await self.engine.proxy_ends(-11)
        if self._hit(self.draw.keeper_crashes):
            self.engine.keeper_dies()
            await asyncio.sleep(self.rng.uniform(0, 2))
            await self.engine.keeper_returns()
        if self._hit(self.draw.daemon_crashes):
            self._daemon.cancel()

    async def _somebody_asks(self) -> None:
        dice = self.rng.random()
        if dice < 0.1 and self.wanted:
            service, count = self.rng.choice(list(self.wanted)), self.rng.randint(0, 4)
            if await self._ask(lambda commands: commands.scale(service, count)):
                self.wanted[service] = count
        elif dice < 0.2 and self.wanted:
            service = self.rng.choice(list(self.wanted))
            await self._ask(lambda commands: commands.restart(service))
        elif dice < 0.3:
            await self._deploy(self._draw_app())
        elif dice < 0.33 and self.wanted:
            service = self.rng.choice(list(self.wanted))
            await self._ask(lambda commands: commands.rollback(service, None))
        elif dice < 0.38 and self.wanted:
            service = self.rng.choice(list(self.wanted))
            promotes = self.rng.random() < 0.5
            await self._ask(lambda c: c.promote(service) if promotes else c.abort(service))

    async def _ask(self, request: Callable[[Commands], Awaitable[object]]) -> bool:
        """Whether it was done. A daemon that dies over it may have done it or not: what it would do is in the store."""
        await self.attached.wait()
        try:
            await request(self._commands())
        except ShoalError:
            return False  # refused as a whole; the world goes on as before
        except Killed:
            self._daemon.cancel()
            kept = self.store._desired
            self.wanted = {name: t.replicas for name, t in kept.targets.items()} if kept else {}
            return False
        return True

    async def _deploy(self, app: App) -> None:
        plan = canaries.draw_plan(self.rng)
        if await self._ask(lambda commands: commands.deploy(app, canary=plan)):
            self.wanted = {s.name: s.replicas for s in app.services}

    def _draw_app(self) -> App:
        names = self.rng.sample(["web", "cart", "users", "worker"], self.rng.randint(1, 4))
        services = []
        for index, name in enumerate(names):
            callees = tuple(n for n in names if n != "worker" and n != name and self.rng.random() < 0.4)
            services.append(
                apps.service(
                    name,
                    port=None if name == "worker" else 3000 + index,
                    replicas=self.rng.randint(0, 3),
                    calls=callees,
                    after=tuple(names[:index][-1:]) if self.rng.random() < 0.2 else (),
                    env=(("VERSION", str(self.rng.randint(1, 3))),),
                    rollout=self._draw_policy(),
                    draining=Draining(drain_s=self.rng.choice([0.0, 2.0, 30.0])),
                    restart=Restart.ALWAYS if self.rng.random() < 0.7 else self.rng.choice(list(Restart)),
                    **health.draw(self.rng),
                )
            )
        return apps.app(*services)

    def _draw_policy(self) -> RolloutPolicy:
        surge = self.rng.randint(0, 2)
        unavailable = self.rng.randint(0 if surge else 1, 2) if self.rng.random() < 0.3 else 0
        strategy, canary = canaries.draw_policy(self.rng)
        return RolloutPolicy(
            strategy=strategy,
            canary=canary,
            surge=surge or (0 if unavailable else 1),
            unavailable=unavailable,
            deadline_s=self.rng.choice([20.0, 120.0]),
            rollback=self.rng.random() < 0.8,
        )

    async def _settle(self) -> None:
        """Faults are over: hung processes that nobody is to restart are put out of their misery, a service that waits
        for one scaled to 0 is not held against it."""
        await self.attached.wait()
        for replica in health.left_alone(self.engine):
            await self.engine.crash(replica)
        if not self.wanted:
            await self._deploy(self._draw_app())
        await self._free_of_barriers()
        end = self.clock.now() + SETTLE_S
        while (odd := self._unsettled()) and self.clock.now() < end:
            await asyncio.sleep(0.5)
            for service in canaries.standing(self._commands()) if odd else ():
                await self._ask(lambda commands, service=service: commands.promote(service))
        if odd:
            raise InvariantError(f"{SETTLE_S:.0f} s after the last fault: {odd}")

    async def _free_of_barriers(self) -> None:
        desired = self.controller.desired
        if desired is not None:
            app = replace(desired.app, services=tuple(replace(s, after=()) for s in desired.app.services))
            await self._deploy(app)

    def _unsettled(self) -> str:
        status = self._commands().status()
        failed = any(replica.state == "failed" for service in status.services for replica in service.replicas)
        if status.health not in (Health.FAILING,) if failed else status.health not in SETTLED:
            return f"app is {status.health}: {status.reason}"
        desired = self.controller.desired
        assert desired is not None
        for service in status.services:
            if service.rollout is not None and service.rollout.under_way:
                return f"{service.name}: its rollout is {service.rollout.state}: {service.rollout.step}"
            if any(replica.state == "failed" for replica in service.replicas):
                continue  # whatever served before goes on
            settled = [r for r in service.replicas if r.state in ("ready", *self._ends(service.name))]
            wanted = desired.targets[
                service.name
            ].replicas  # a rollout that failed may have brought an older number back
            if len(settled) != wanted or len(service.replicas) != len(settled):
                return f"{service.name}: {len(settled)} settled, {wanted} wanted"
        observed = self.controller.observed.replicas.values()
        ready = {r.id for r in observed if r.service != "worker" and r.state is ReplicaState.READY}
        if self.sink.routes_to != ready:
            return f"Envoy routes to {sorted(self.sink.routes_to)}, ready are {sorted(ready)}"
        if len(self.store._replicas) != len(self.controller.observed.replicas):
            return "the store remembers replicas that are gone"
        return ""

    def _ends(self, service: str) -> tuple[str, ...]:
        """The states in which a replica of it may stay without a process."""
        desired = self.controller.desired
        assert desired is not None
        match desired.targets[service].service.restart:
            case Restart.ALWAYS:
                return ()
            case Restart.ON_FAILURE:
                return ("completed",)
            case Restart.NEVER:
                return ("completed", "failed")

    async def _down(self, keeper: asyncio.Task[None]) -> None:
        hurried = self.rng.random() < 0.3
        await self._commands().down(now=hurried and self.rng.random() < 0.5)
        if hurried:
            await asyncio.sleep(self.rng.uniform(0, 5))
            if not keeper.done():
                await self._commands().down(now=True)
        async with asyncio.timeout(60):
            await keeper
        running = [p for p, process in self.engine.processes.items() if process.running]
        if running or self.engine.proxy_pid is not None:
            raise InvariantError(f"still there after down: {running}, proxy {self.engine.proxy_pid}")


def _was_killed(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_was_killed(e) for e in error.exceptions)
    return isinstance(error, Killed)


def simulate(seed: int) -> None:
    """Raises on a broken invariant, with the command that shows it again."""

    async def life() -> None:
        await World(seed).live()

    try:
        run(life(), limit_s=3600)
    except BaseException as error:
        error.add_note(f"replay: make sim SEED={seed}")
        raise
