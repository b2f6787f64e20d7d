"""What people ask for, in the words of the command line. Each runs in the loop's own task order: no locks."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from shoal.control import rollouts
from shoal.control.controller import Controller
from shoal.control.dryrun import dry_run
from shoal.control.history import check_schema, difference, history, known_as, roll_back
from shoal.control.jobs import job_status
from shoal.control.lag import LagWatch
from shoal.control.status import Identity, app_status, explain, runs, service_status
from shoal.errors import ConflictError, NotFoundError, UsageError
from shoal.model import action as act
from shoal.model import event as ev
from shoal.model.app import App
from shoal.model.lag import NOTHING, Lag
from shoal.model.migration import MigrationList, MigrationRun, words
from shoal.model.policy import are_shares
from shoal.model.rollout import CanaryPlan, Rollout, RolloutState, RolloutTrigger
from shoal.model.status import (
    AppStatus,
    Deployment,
    DryRun,
    ExecContext,
    Explanation,
    JobStatus,
    RevisionDiff,
    RevisionList,
    ServiceStatus,
)
from shoal.model.world import Desired, ProxyState, Target
from shoal.planner import Plan, jobs, plan
from shoal.ports import Clock, Store

REPLICAS_MAX = 100


def _no_job(target: Target) -> None:
    if target.service.job is not None:
        name = target.service.name
        raise UsageError(f"{name} is a job, one process at a time", way_out=f"run it now: shoal run {name}")


class Commands:
    """The API's whole view of the control loop.

    `check_ports(app)` names the owners of ports that the app wants and others hold; `context(desired, service)` is the
    engine's answer for `shoal exec`.
    """

    def __init__(
        self,
        controller: Controller,
        *,
        store: Store,
        clock: Clock,
        identity: Callable[[], Identity],
        check_ports: Callable[[App], list[str]],
        context: Callable[[Desired, str], ExecContext],
        migrations: Callable[[str], Sequence[MigrationRun]] = lambda service: (),
        lag: LagWatch | None = None,
    ) -> None:
        self._controller = controller
        self._store = store
        self._clock = clock
        self._identity = identity
        self._check_ports = check_ports
        self._context = context
        self._migrations = migrations
        self._lag_watch = lag

    async def look_at_lag(self) -> None:
        """Reads anew how far events are behind, where what is known is old; a second at the most."""
        if self._lag_watch is not None:
            await self._lag_watch.look(self._controller.desired)

    def status(self) -> AppStatus:
        controller = self._controller
        newest = self._store.journal(after=-1)
        sequence = newest[-1].sequence if newest else 0
        return app_status(
            controller.desired,
            controller.observed,
            self._plan(),
            self._identity(),
            sequence,
            self._clock.now(),
            self._lag(controller.desired),
        )

    def explain(self, service: str) -> Explanation:
        desired, target = self._target(service)
        return explain(
            target,
            desired,
            self._controller.observed,
            self._plan(),
            self._controller.edges,
            self._identity().no_way_out,
            self._lag(desired),
        )

    def exec_context(self, service: str) -> ExecContext:
        desired, _ = self._target(service)
        return self._context(desired, service)

    def partly(self, app: App, only: Collection[str]) -> App:
        """What runs, with these services as `app` has them. Raises NotFoundError."""
        current = self._controller.desired
        if current is None:
            raise NotFoundError("nothing runs yet", way_out="bring all of it up first: shoal up")
        newer = {service.name: service for service in app.services}
        for name in only:
            if name not in newer:
                raise not_found(name, newer, app.name)
        before = {service.name: service for service in current.app.services}
        names = [*(n for n in newer if n in before or n in only), *(n for n in before if n not in newer)]
        services = tuple(newer[n] if n in only else before[n] for n in names)
        return replace(current.app, services=services)

    async def deploy(self, app: App, *, only: Collection[str] = (), canary: CanaryPlan | None = None) -> Deployment:
        """Raises UsageError when the shares of `canary` are none; ConflictError when others hold its ports, or replicas
        would have to move to another network; EngineError when its source cannot be kept; StoreError. Then nothing has
        changed."""
        if canary is not None and not are_shares(canary.percents):
            shares = ", ".join(f"{percent:g}" for percent in canary.percents)
            raise UsageError(f"{shares}: these are no growing shares between 0 and 100", way_out="such are 10, 50")
        self._refuse_to_move(app)
        taken = self._check_ports(app)
        if taken:
            raise ConflictError("\n".join(taken))
        async with self._controller.collector.away:
            return await self._deploy(app, only, canary)

    async def _deploy(self, app: App, only: Collection[str], canary: CanaryPlan | None) -> Deployment:
        sources = await self._controller.sources(app, keep=True)
        # Only now: nothing may come between this look and the deploy.
        before = self._controller.desired
        if before is not None and before.down:
            raise ConflictError(f"{before.app.name} is going down", way_out="wait for it, then run it again")
        self._refuse_to_move(app)
        if only and before is not None:
            # The others run on from what they were made of, whatever the working tree holds now.
            kept = {n: t.revision.source for n, t in before.targets.items() if n not in only and t.revision.source}
            sources = {n: digest for n, digest in sources.items() if n in only} | kept
        desired, changed, removed = self._controller.deploy(app, sources, canary)
        newest = self._store.journal(after=-1)
        return Deployment(
            generation=desired.generation,
            changed=changed,
            removed=removed,
            sequence=newest[-1].sequence if newest else 0,
            rolling=tuple(n for n, t in desired.targets.items() if t.rollout is not None and t.rollout.under_way),
        )

    def _refuse_to_move(self, app: App) -> None:
        """Replicas in the one network and in the other cannot serve side by side: each Envoy reaches one kind."""
        before, replicas = self._controller.desired, self._controller.observed.replicas.values()
        for service in app.services:
            target = before.targets.get(service.name) if before is not None else None
            running = any(replica.service == service.name for replica in replicas)
            if target is not None and target.service.network is not service.network and running:
                raise ConflictError(
                    f"'network' of {service.name} changes to {service.network}, and its replicas run in the other",
                    way_out="run shoal down, then shoal up",
                )

    async def dry_run(self, app: App) -> DryRun:
        """What `deploy` would do; changes nothing. Raises StoreError, EngineError."""
        controller = self._controller
        sources = await controller.sources(app, keep=False)
        newest = {s.name: known[-1] for s in app.services if (known := self._store.revisions(s.name))}
        return dry_run(app, controller.desired, newest, controller.observed, self._clock.now(), sources)

    async def scale(self, service: str, replicas: int) -> ServiceStatus:
        desired, target = self._target(service)
        if not 0 <= replicas <= REPLICAS_MAX:
            raise UsageError(
                f"{replicas} replicas of {service}: not between 0 and {REPLICAS_MAX}", way_out="name another number"
            )
        if target.service.is_external:
            raise ConflictError(f"{service} is outside: Shoal does not run it", way_out="scale it where it runs")
        _no_job(target)
        scaled = ev.Scaled(at=self._clock.now(), service=service, replicas=replicas)
        return self._set(desired, rollouts.scaled(target, replicas), scaled)

    async def restart(self, service: str) -> ServiceStatus:
        desired, target = self._target(service)
        _no_job(target)
        now = self._clock.now()
        asked = ev.RestartRequested(at=now, service=service)
        again = replace(target, generation=rollouts.next_generation(target))
        if not rollouts.rolls(target.service, desired.app):
            return self._set(desired, again, asked)
        again, happened = rollouts.started(again, target, "restart", now)
        return self._set(desired, again, asked, *happened)

    def revisions(self, service: str) -> RevisionList:
        """Raises NotFoundError, StoreError."""
        _, target = self._target(service)
        found = history(target, self._store.revisions(service), self._controller.observed.of(service))
        return RevisionList(service=service, revisions=found)

    def migrations(self, service: str) -> MigrationList:
        """Raises NotFoundError, EngineError."""
        _, target = self._target(service)
        migration = target.service.migrate
        command = words(migration.command) if migration is not None else ""
        return MigrationList(service=service, command=command, runs=tuple(self._migrations(service)))

    async def diff(self, service: str, before: int | None, after: int | None, app: App | None) -> RevisionDiff:
        """`before`: None is what is wanted now. `after`: the same, unless `app` is given: then as a deploy of that
        would have it, with the working tree. Raises NotFoundError, EngineError, StoreError."""
        _, target = self._target(service)
        known = self._store.revisions(service)
        old = known_as(service, known, before) if before is not None else target.revision
        controller = self._controller
        async with controller.collector.away:  # what is compared stays meanwhile
            if app is None:
                new = known_as(service, known, after) if after is not None else target.revision
                return difference(
                    old, new, new.number, await controller.files(old.source), await controller.files(new.source)
                )
            written = next((s for s in app.services if s.name == service), None)
            if written is None:
                raise not_found(service, [s.name for s in app.services], f"the app file of {app.name}")
            alone = replace(app, services=(written,))
            source = (await controller.sources(alone, keep=True)).get(service, "")
            new = replace(old, service=written, source=source)
            return difference(old, new, None, await controller.files(old.source), await controller.files(source))

    async def rollback(self, service: str, to: int | None, *, migrated: bool = False) -> ServiceStatus:
        """`migrated`: also where migrations have changed the schema since. Raises NotFoundError, ConflictError,
        StoreError, and MigratedError without that; then nothing has changed."""
        desired, target = self._target(service)
        _no_job(target)
        if desired.down:
            raise ConflictError(f"{desired.app.name} is going down", way_out="bring it up again: shoal up")
        if not rollouts.rolls(target.service, desired.app):
            raise ConflictError(f"Shoal rolls no changes of {service} out", way_out="change it where it runs")
        after, happened = roll_back(desired, target, self._store.revisions(service), to, self._clock.now())
        if not migrated:
            check_schema(target, after.targets[service].revision, self._migrations(service))
        self._controller.change_app(after, *happened)
        return self._service_status(after.targets[service], after)

    async def promote(self, service: str) -> ServiceStatus:
        """A canary's next step, or after the last one all of the service. Raises ConflictError without a canary."""
        _, target = self._target(service)
        rollout = self._canary(target)
        last = rollout.step + 1 >= len(rollout.steps)
        trigger = RolloutTrigger.PROMOTED if last else RolloutTrigger.STEPPED
        return self._move(service, trigger, "promoted: shoal promote")

    async def abort(self, service: str) -> ServiceStatus:
        """Takes a canary back. Raises ConflictError without one."""
        self._canary(self._target(service)[1])
        return self._move(service, RolloutTrigger.FAILED, "aborted: shoal abort")

    def _canary(self, target: Target) -> Rollout:
        rollout = target.rollout
        if rollout is None or rollout.state is not RolloutState.CANARY:
            name = target.service.name
            raise ConflictError(f"{name} has no canary under way", way_out=f"start one: shoal deploy {name} --canary")
        return rollout

    def _move(self, service: str, trigger: RolloutTrigger, reason: str) -> ServiceStatus:
        self._controller.move(act.MoveRollout(service=service, trigger=trigger, reason=reason))
        desired, target = self._target(service)
        return self._service_status(target, desired)

    async def run_job(self, job: str) -> JobStatus:
        """Starts a run now. Raises ConflictError while one is under way, or the app goes down."""
        desired, target = self._target(job)
        if target.service.job is None:
            raise UsageError(f"{job} is a service, and runs all the time", way_out=f"shoal restart {job}")
        if desired.down:
            raise ConflictError(f"{desired.app.name} is going down", way_out="bring it up again: shoal up")
        running = jobs.under_way(self._controller.observed.of(job))
        if running:
            raise ConflictError(f"{job} runs already, as {running[0].id}", way_out=f"watch it: shoal logs {job} -f")
        self._controller.run_job(target)
        observed, now = self._controller.observed, self._clock.now()
        return job_status(target, desired, observed, now, what=runs(target.service))

    async def replace_proxy(self) -> None:
        """Another Envoy takes over, once the one that runs serves. Raises ConflictError when none runs, or one is about
        to."""
        proxy = self._controller.observed.proxy
        if proxy.state not in (ProxyState.STARTING, ProxyState.SERVING):
            raise ConflictError(f"Envoy is {proxy.state}, and only one that runs can hand over", way_out="try again")
        if proxy.replacing or proxy.outdated:
            raise ConflictError(
                "another Envoy is about to take over already", way_out="see how far it is: shoal events"
            )
        now = self._clock.now()
        self._controller.note(ev.ProxyReplacementRequested(at=now, reason="asked for: shoal upgrade --envoy"))
        self._controller.inbox.nudge()

    async def down(self, *, now: bool = False) -> None:
        """`now`: without waiting for requests. Raises StoreError."""
        self._controller.go_down(hurry=now)

    def _set(self, desired: Desired, target: Target, *happened: ev.RequestEvent | ev.RolloutEvent) -> ServiceStatus:
        name = target.service.name
        self._controller.change(replace(desired, targets={**desired.targets, name: target}), *happened)
        now = self._controller.desired
        assert now is not None
        return self._service_status(target, now)

    def _service_status(self, target: Target, desired: Desired) -> ServiceStatus:
        return service_status(target, desired, self._controller.observed, self._plan(), self._lag(desired))

    def _lag(self, desired: Desired | None) -> Lag:
        return self._lag_watch.of(desired) if self._lag_watch is not None else NOTHING

    def _plan(self) -> Plan:
        return plan(self._controller.desired, self._controller.observed, self._clock.now())

    def _target(self, service: str) -> tuple[Desired, Target]:
        desired = self._controller.desired
        if desired is None:
            raise NotFoundError("nothing is deployed", way_out="deploy it: shoal up")
        target = desired.targets.get(service)
        if target is None:
            raise not_found(service, desired.targets, desired.app.name)
        return desired, target


def not_found(service: str, known: Collection[str], app: str) -> NotFoundError:
    close = difflib.get_close_matches(service, known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else "there are: " + ", ".join(known)
    return NotFoundError(f"{app} has no service '{service}'", way_out=hint)
