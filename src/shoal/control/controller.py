"""The loop. Events come in, the planner decides, actions go out; nothing else changes what is observed.

    while not finished:
        fold(what happened); publish(what Envoy should hold); run(what the planner says)

It runs in one task, and so do the commands that change what is desired: no locks. What may take long (starting a
process) runs in tasks of its own that report by events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from shoal.control.collecting import KEPT, Collector
from shoal.control.inbox import Inbox
from shoal.control.journal import Feed, describe
from shoal.control.revisions import edge_pairs, next_desired
from shoal.control.rollouts import compared, deployed, knowing, moved
from shoal.control.routing import Routing
from shoal.errors import EngineError, ShoalError, StoreError
from shoal.model import action as act
from shoal.model import event as ev
from shoal.model.app import App, Network
from shoal.model.replica import Exit, Replica
from shoal.model.rollout import CanaryPlan, RolloutTrigger
from shoal.model.topology import Edge, EdgeMap
from shoal.model.world import Desired, Observed, Proxy, ProxyState, Revision, Routes, Target
from shoal.planner import Plan, fold, jobs, plan
from shoal.ports import Clock, DrainMeter, Engine, Launch, Preparation, SnapshotSink, Store, TrafficMeter

STORE_RETRY_S = 1.0
"""How long after a failed write the loop tries again."""
ROUNDS_MAX = 10
"""Plans in a row without a new event; more means that actions do not change what they are for."""


class Controller:
    """Owns what is desired and what is observed.

    `attach` first (what runs already?), then `run` until everything is down, or cancelled: replicas go on without it.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        store: Store,
        engine: Engine,
        sink: SnapshotSink,
        clock: Clock,
        routing: Routing,
        network: int,
        feed: Feed,
        meter: TrafficMeter | None = None,
        anybody: bool = False,
        revisions_kept: int = KEPT,
        drains: DrainMeter | None = None,
    ) -> None:
        """`anybody`: each service is also reached at an address that tells nothing about who calls."""
        self.inbox = inbox
        self.desired: Desired | None = None
        self.observed = Observed()
        self.edges = EdgeMap(network=network)
        self.feed = feed
        self.collector = Collector(store, engine, kept=revisions_kept)
        self._store = store
        self._engine = engine
        self._sink = sink
        self._clock = clock
        self._routing = routing
        self._anybody = anybody
        self._revisions: dict[tuple[str, int], Revision] = {}
        self._unsaved: set[str] = set()
        self._store_retry_at: float | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._past: Desired | None = None
        self._leave = False
        self._meter = meter
        self._drains = drains
        self._metered: Desired | None = None

    # --- coming up

    async def attach(self) -> int:
        """Rebuilds what is observed from the store and from what runs; publishes it. Returns how many replicas run.

        Everything that Envoy could be routing to is counted as routed until Envoy says otherwise.
        """
        self.desired = self._store.load_desired()
        self.observed.next_number = self._store.next_numbers()
        found = {f.replica: f for f in await self._engine.observe()}
        now = self._clock.now()
        adopted = 0
        for row in self._store.load_replicas():
            self.observed.replicas[row.id] = row
            process = found.pop(row.id, None)
            if process is not None and process.running and process.attempt == row.attempt:
                adopted += 1
                if process.pid is not None:
                    started = ev.ReplicaStarted(
                        at=now,
                        replica=row.id,
                        attempt=row.attempt,
                        pid=process.pid,
                        address=process.address,
                        ports=process.ports,
                    )
                    self._take(started, quiet=True)
            elif row.runs:
                if process is not None and not process.running:
                    end = Exit(at=now, code=process.exit_code)
                else:
                    end = Exit(at=now, error="its process was gone when Shoal came back")
                self._take(ev.ReplicaExited(at=now, replica=row.id, attempt=row.attempt, exit=end))
        for stranger in found.values():
            await self._drop_stranger(stranger.replica, running=stranger.running)
        # Whatever its recorded state: a full disk may have kept the record of its readiness from being written.
        # And those that have no process now: their next attempt listens where an Envoy that heard nothing still routes.
        routed = frozenset(self.observed.replicas)
        self.observed.applied = Routes(version=0, generation=0, replicas=routed)
        pid = await self._engine.observe_proxy()
        if pid is not None:
            self.observed.proxy = Proxy(state=ProxyState.STARTING, since=now, pid=pid, attempt=1)
        if self.desired is not None and self.desired.down and pid is None and self._is_down():
            # Down since before: wait for a deploy, which counts on from there.
            self._past, self.desired = self.desired, None
        if self.desired is not None:
            self.edges = self._leased(self.desired.app)
            self._publish()
        return adopted

    async def _drop_stranger(self, replica: str, *, running: bool) -> None:
        """A process that the store does not know: a start whose record was lost. It must not go on unseen."""
        if running:
            self.note(ev.Warned(at=self._clock.now(), subject=replica, message="ran without a record; it is stopped"))
            await self._engine.stop(replica, force=True)
        await self._engine.forget(replica)

    async def run(self) -> None:
        """Until `down` is done. Raises nothing for what happens to replicas, Envoy or the store."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._collect()
            while True:
                decided = self._turn()
                if decided.finished or (self._leave and self.desired is None):
                    break
                for event in await self.inbox.take(self._until(decided.wake_at)):
                    self._take(event)
            for task in self._running:
                task.cancel()

    def _until(self, wake_at: float | None) -> float | None:
        """Seconds to the next thing that happens by itself."""
        times = [t for t in (wake_at, self._store_retry_at) if t is not None]
        return max(0.0, min(times) - self._clock.now()) if times else None

    # --- one turn

    def _turn(self) -> Plan:
        if self._store_retry_at is not None and self._clock.now() >= self._store_retry_at:
            self._store_retry_at = None
            for replica in sorted(self._unsaved):
                self._save(replica)
        for _ in range(ROUNDS_MAX):
            # Endpoints first: a stop that is decided below must find them gone.
            self._publish()
            decided = plan(self.desired, self.observed, self._clock.now())
            moves = [action for action in decided.actions if isinstance(action, act.MoveRollout)]
            done = [self._execute(action) for action in decided.actions if not isinstance(action, act.MoveRollout)]
            if not any([*done, self._move(moves)]):
                break
        return decided

    def _take(self, event: ev.Event, *, quiet: bool = False) -> None:
        """Folds one event, keeps what must outlive us, writes the journal."""
        about = getattr(event, "replica", None)
        before = self.observed.replicas.get(about) if about else None
        fold(self.observed, event)
        after = self.observed.replicas.get(about) if about else None
        if about and after is not None and _worth_saving(before, after):
            self._save(about)
        if not quiet:
            for note in describe(event, before, after):
                self._append(event.at, note.kind, note.subject, note.message, note.data)

    def note(self, event: ev.Event) -> None:
        """For events that come from within the loop's own task."""
        self._take(event)

    def _append(self, at: float, kind: str, subject: str, message: str, data: dict[str, object]) -> None:
        try:
            entry = self._store.append(at, kind, subject, message, data)
        except StoreError:
            self._retry_store()  # an entry may be lost, the app must not be
            return
        self.feed.publish(entry)

    def _save(self, replica: str) -> bool:
        record = self.observed.replicas.get(replica)
        if record is None:
            self._unsaved.discard(replica)
            return True
        try:
            self._store.save_replica(record)
        except StoreError:
            self._unsaved.add(replica)
            self._retry_store()
            return False
        self._unsaved.discard(replica)
        return True

    def _retry_store(self) -> None:
        if self._store_retry_at is None:
            self._store_retry_at = self._clock.now() + STORE_RETRY_S

    # --- actions

    def _execute(self, action: act.Action) -> bool:
        """Whether it was done; False: the store refuses, and it will be planned again."""
        now = self._clock.now()
        match action:
            case act.StartReplica():
                return self._start(action, now)
            case act.PrepareRevision():
                scheduled = ev.RevisionScheduled(
                    at=now, service=action.service, revision=action.revision, reason=action.reason
                )
                self._take(scheduled)
                self._spawn(lambda: self._prepare(action), f"prepare {action.service}")
            case act.MoveRollout():
                return self._move([action])
            case act.DrainReplica():
                self._take(ev.DrainStarted(at=now, replica=action.replica, reason=action.reason))
            case act.StopReplica():
                signal = self.observed.replicas[action.replica].stop_signal
                sent = ev.StopSent(at=now, replica=action.replica, forced=False, reason=action.reason, signal=signal)
                self._take(sent)
                self._spawn(lambda: self._stop(action.replica, force=False), f"stop {action.replica}")
            case act.KillReplica():
                self._take(ev.StopSent(at=now, replica=action.replica, forced=True, reason=action.reason))
                self._spawn(lambda: self._stop(action.replica, force=True), f"kill {action.replica}")
            case act.ForgetReplica():
                return self._forget(action, now)
            case act.StartProxy():
                self._take(ev.ProxyScheduled(at=now, attempt=action.attempt, reason=action.reason))
                self._spawn(self._engine.start_proxy, "start proxy")
            case act.ReplaceProxy():
                self._take(ev.ProxyReplacementStarted(at=now, reason=action.reason))
                self._spawn(self._engine.replace_proxy, "replace proxy")
            case act.StopProxy():
                self._take(ev.ProxyStopSent(at=now, reason=action.reason))
                self._spawn(self._engine.stop_proxy, "stop proxy")
            case _:
                assert_never(action)
        return True

    def _move(self, actions: Sequence[act.MoveRollout]) -> bool:
        """All in one write: each writes down what is desired of all services, and a thousand may move at once."""
        if self._store_retry_at is not None or self.desired is None:
            return False
        desired, happened, now = self.desired, list[ev.RolloutEvent](), self._clock.now()
        for action in actions:
            if step := moved(desired, action, now):
                desired = step[0]
                happened += step[1]
        if desired is self.desired:
            return False
        try:
            # What a service called before may not have been called since.
            edges = self.edges if desired.app is self.desired.app else self._leased(desired.app)
            self.change(desired, *happened)
        except StoreError:
            self._retry_store()
            return False
        self.edges = edges
        if any(action.trigger is RolloutTrigger.REPLACED for action in actions):
            self._collect()
        return True

    def _start(self, action: act.StartReplica, now: float) -> bool:
        if self._store_retry_at is not None:
            return False
        before = self.observed.replicas.get(action.replica)
        scheduled = ev.ReplicaScheduled(
            at=now,
            replica=action.replica,
            service=action.service,
            number=action.number,
            revision=action.revision,
            generation=action.generation,
            attempt=action.attempt,
            reason=action.reason,
            restart=action.restart,
            stop_signal=action.stop_signal,
        )
        fold(self.observed, scheduled)
        after = self.observed.replicas[action.replica]
        if after is before:
            return False
        # Nothing runs that the store does not know: the record comes before the process.
        if not self._save(action.replica):
            self._unsaved.discard(action.replica)
            if before is None:
                del self.observed.replicas[action.replica]
            else:
                self.observed.replicas[action.replica] = before
            return False
        for note in describe(scheduled, before, after):
            self._append(now, note.kind, note.subject, note.message, note.data)
        self._spawn(lambda: self._launch(after), f"start {after.id}")
        return True

    async def _launch(self, replica: Replica) -> None:
        revision = self._revision(replica.service, replica.revision)
        if revision is None or self.desired is None:
            error = f"revision {replica.revision} of {replica.service} is not in the store any more"
            await self._failed(replica, error)
            return
        launch = Launch(
            replica=replica.id,
            attempt=replica.attempt,
            revision=revision,
            app=self.desired.app,
            edges=self.edges,
        )
        try:
            await self._engine.start(launch)
        except ShoalError as error:
            await self._failed(replica, str(error))

    async def _prepare(self, action: act.PrepareRevision) -> None:
        service, number = action.service, action.revision
        revision = self._revision(service, number)
        try:
            if revision is None or self.desired is None:
                raise EngineError(f"revision {number} of {service} is not in the store any more")
            await self._engine.prepare(Preparation(revision=revision, app=self.desired.app, edges=self.edges))
        except ShoalError as error:
            tail = tuple(error.detail.splitlines()[-20:])
            now = self._clock.now()
            event = ev.RevisionFailed(at=now, service=service, revision=number, error=str(error), tail=tail)
            await self.inbox.put(event)
        else:
            await self.inbox.put(ev.RevisionPrepared(at=self._clock.now(), service=service, revision=number))

    def _collect(self) -> None:
        self._spawn(lambda: self.collector.collect(lambda: (self.desired, self.observed.replicas.values())), "collect")

    async def _stop(self, replica: str, *, force: bool) -> None:
        record = self.observed.replicas.get(replica)
        if record is not None and not await self._engine.stop(replica, force=force):
            # Every stop ends: what has no process has ended.
            await self._failed(record, "had no process any more")

    async def _failed(self, replica: Replica, error: str) -> None:
        now = self._clock.now()
        end = Exit(at=now, error=error)
        await self.inbox.put(ev.ReplicaExited(at=now, replica=replica.id, attempt=replica.attempt, exit=end))

    def _revision(self, service: str, number: int) -> Revision | None:
        target = self.desired.targets.get(service) if self.desired else None
        if target is not None and target.revision.number == number:
            return target.revision
        if (service, number) not in self._revisions:
            try:
                known = self._store.revisions(service)
            except StoreError:
                return None
            self._revisions.update({(service, r.number): r for r in known})
        return self._revisions.get((service, number))

    def _forget(self, action: act.ForgetReplica, now: float) -> bool:
        try:
            self._store.delete_replica(action.replica)
        except StoreError:
            self._retry_store()
            return False
        self._unsaved.discard(action.replica)
        self._take(ev.ReplicaForgotten(at=now, replica=action.replica))
        self._spawn(lambda: self._engine.forget(action.replica), f"forget {action.replica}")
        return True

    def _spawn(self, work: Callable[[], Awaitable[object]], name: str) -> None:
        """Work that must not stop the loop. Its failure is told, and planned around: nothing else ends with it."""
        assert self._tasks is not None

        async def guarded() -> None:
            try:
                await work()
            except ShoalError as error:
                now = self._clock.now()
                await self.inbox.put(
                    ev.Warned(at=now, subject="daemon", message=f"{name}: {error.message}", way_out=error.way_out)
                )

        task = self._tasks.create_task(guarded(), name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    # --- what Envoy should hold, and tell

    def _publish(self) -> None:
        if self.desired is None:
            return
        if self._meter is not None and self._metered is not self.desired:
            self._metered = self.desired
            self._meter.watch(compared(self.desired))
        snapshot = self._routing.snapshot(self.desired, self.observed, self.edges)
        if self._drains is not None:
            self._drains.watch(self._routing.drained(self.desired, self.observed))
        if snapshot is None:
            return
        self._sink.publish(snapshot)
        published = ev.SnapshotPublished(
            at=self._clock.now(),
            version=snapshot.version,
            generation=self.desired.generation,
            replicas=snapshot.replicas,
        )
        fold(self.observed, published)

    def _leased(self, app: App) -> EdgeMap:
        numbers = self._store.lease_edges(edge_pairs(app, anybody=self._anybody))
        edges = {pair: Edge(caller=pair[0], callee=pair[1], number=number) for pair, number in numbers.items()}
        own = frozenset(service.name for service in app.services if service.network is Network.OWN)
        return EdgeMap(network=self.edges.network, edges=edges, own=own)

    # --- what is desired

    async def sources(self, app: App, *, keep: bool) -> Mapping[str, str]:
        """The digests of the source trees as they are now; with `keep`, the engine can start from them. Raises
        EngineError."""
        return await self._engine.snapshot(app, keep=keep)

    async def files(self, source: str) -> Mapping[str, str]:
        """Of a snapshot; none where there is none. Raises EngineError."""
        return await self._engine.files(source) if source else {}

    def deploy(
        self, app: App, sources: Mapping[str, str], canary: CanaryPlan | None = None
    ) -> tuple[Desired, tuple[str, ...], tuple[str, ...]]:
        """`sources`: as `sources` gave them. Raises StoreError, and then nothing has changed."""
        now = self._clock.now()
        newest = {s.name: known[-1] for s in app.services if (known := self._store.revisions(s.name))}
        before = self.desired or self._past
        desired, fresh, removed = next_desired(app, before, newest, now, sources)
        desired, rollouts = deployed(desired, before, now, canary)
        desired = knowing(desired, before, self.observed.rejected)
        edges = self._leased(app)
        for revision in fresh:
            self._store.add_revision(revision)
        changed = tuple(revision.service.name for revision in fresh)
        happened = ev.Deployed(at=now, generation=desired.generation, changed=changed, removed=removed)
        self.change(desired, happened, *rollouts)
        self.edges = edges
        return desired, changed, removed

    def change_app(self, desired: Desired, *happened: ev.RequestEvent | ev.RolloutEvent) -> None:
        """As `change`, for one with another app. Raises StoreError."""
        edges = self._leased(desired.app)
        self.change(knowing(desired, self.desired, self.observed.rejected), *happened)
        self.edges = edges

    def move(self, action: act.MoveRollout) -> bool:
        """Takes a rollout on, or back, as a person asks. Raises StoreError. False: it does not move that way."""
        step = moved(self.desired, action, self._clock.now()) if self.desired is not None else None
        if step is not None:
            self.change_app(step[0], *step[1])
        return step is not None

    def run_job(self, target: Target) -> str:
        """The id of the run that starts now. Raises StoreError, and then none does."""
        action = jobs.start(target, self.observed, "asked for: shoal run")
        if self._tasks is None or not self._start(action, self._clock.now()):
            raise StoreError("the run cannot be written down, so it was not started", way_out="see shoal events")
        self.inbox.nudge()
        return action.replica

    def _is_down(self) -> bool:
        return plan(self.desired, self.observed, self._clock.now()).finished

    def go_down(self, *, hurry: bool = False) -> None:
        """Everything is drained and stopped, Envoy last; then `run` returns. Raises StoreError. `hurry`: nothing is
        drained, also when that has begun."""
        self._leave = True
        desired, now = self.desired, self._clock.now()
        if desired is not None and (not desired.down or (hurry and not desired.hurry)):
            down = replace(desired, down=True, down_at=now, hurry=hurry)
            self.change(down, ev.DownRequested(at=now, hurry=hurry))
        self.inbox.nudge()

    def change(self, desired: Desired, *happened: ev.RequestEvent | ev.RolloutEvent) -> None:
        """Takes over what is desired, once the store has it. Raises StoreError, and then nothing has changed."""
        self._store.save_desired(desired)
        self.desired = desired
        for event in happened:
            self._take(event)
        self.inbox.nudge()


def _worth_saving(before: Replica | None, after: Replica) -> bool:
    """Whether a restarted daemon would miss it: anything but probe counts and progress."""
    if before is None:
        return True
    return (
        before.state is not after.state
        or before.attempt != after.attempt
        or before.pid != after.pid
        or before.address != after.address
        or before.ports != after.ports
        or before.detached_at != after.detached_at
        or before.out_at != after.out_at
        or before.told_at != after.told_at
    )
