"""What is desired, while services change: how rollouts begin, move and end. Pure.

A deploy, a restart and a rollback by hand all begin one (`started`); the planner says when it moves (`moved`). At most
one rollout of a service is under way: a newer one supersedes it, and returns, should it fail, to where that one would
have.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from shoal.control.returning import failed, returned, with_outcome
from shoal.model import action as act
from shoal.model import event as ev
from shoal.model.app import App, Protocol, Service
from shoal.model.policy import Strategy
from shoal.model.rollout import (
    UNDER_WAY,
    CanaryPlan,
    CanaryStep,
    Fallback,
    Rollout,
    RolloutState,
    RolloutTrigger,
    rollout_after,
)
from shoal.model.world import Desired, Stable, Target


def rolls(service: Service, app: App) -> bool:
    """Whether its changes are rollouts. In `shoal dev` a person watches, and takes no revision back."""
    return not service.is_external and service.job is None and not app.dev


def deployed(
    desired: Desired, current: Desired | None, now: float, canary: CanaryPlan | None = None
) -> tuple[Desired, tuple[ev.RolloutEvent, ...]]:
    """`desired`, as a deploy wants it, with a rollout for each service that changes by it; and what that means."""
    targets: dict[str, Target] = {}
    events: list[ev.RolloutEvent] = []
    for name, target in desired.targets.items():
        before = current.targets.get(name) if current is not None else None
        if not rolls(target.service, desired.app):
            targets[name] = target
            continue
        afresh = current is None or current.down or before is None
        if before is not None and not afresh and _unchanged(before, target):
            targets[name] = replace(target, rollout=before.rollout, outcomes=before.outcomes)
            continue
        targets[name], happened = started(target, before, f"deploy {desired.generation}", now)
        targets[name] = tried_out(targets[name], canary)
        events += happened
    return replace(desired, targets=targets, stable=stable(current)), tuple(events)


def tried_out(target: Target, asked: CanaryPlan | None) -> Target:
    """As a canary first, where the deploy asks for it (`asked`) or else the service says so; not what has no requests
    to share, nothing to be compared with, or no room for one replica of both. Who asks may have one that nobody can
    judge: it stands."""
    rollout, service = target.rollout, target.service
    policy = service.rollout.canary
    blind = all(port.protocol is Protocol.TCP for port in service.every_port)
    strategy = asked.strategy if asked is not None else Strategy.ROLLING if blind else service.rollout.strategy
    if strategy is not Strategy.CANARY or rollout is None or rollout.fallback is None or service.port is None:
        return target
    same = rollout.fallback.revision.number == rollout.revision
    if same or not target.replicas or target.replicas + service.rollout.surge < 2:
        return target
    steps = tuple(
        CanaryStep(percent=percent, samples_min=policy.samples_min, wait_s=policy.wait_s, wait_s_max=policy.wait_s_max)
        for percent in (asked.percents if asked is not None and asked.percents else policy.percents)
    )
    auto = policy.auto if asked is None or asked.auto is None else asked.auto
    return replace(target, rollout=replace(rollout, strategy=strategy, steps=steps, auto=auto))


def stable(current: Desired | None) -> Stable | None:
    """The app as the newest deploy left it whose rollouts all ended well; None: there was none."""
    if current is None:
        return None
    bad = (RolloutState.FAILED, *UNDER_WAY)
    if any(target.rollout is not None and target.rollout.state in bad for target in current.targets.values()):
        return current.stable
    services = tuple(
        Fallback(revision=t.revision, generation=t.generation, replicas=t.replicas) for t in current.targets.values()
    )
    return Stable(services=services, gateway=current.app.gateway)


def _unchanged(before: Target, after: Target) -> bool:
    if before.revision.number != after.revision.number or before.revision.digest != after.revision.digest:
        return False
    # Who deploys the same again wants it to be tried again.
    return before.rollout is None or before.rollout.state is not RolloutState.FAILED


def started(
    target: Target, before: Target | None, cause: str, now: float
) -> tuple[Target, tuple[ev.RolloutEvent, ...]]:
    """`target` with a new rollout to it. `before`: what was wanted until now."""
    events: list[ev.RolloutEvent] = []
    outcomes = before.outcomes if before is not None else ()
    generation = target.generation
    if before is not None and before.rollout is not None:
        old = before.rollout
        if old.under_way:
            superseded = ev.RolloutSuperseded(
                at=now, service=target.service.name, revision=old.revision, by=target.revision.number
            )
            events.append(superseded)
            if old.state is not RolloutState.ROLLING_BACK:
                outcomes = with_outcome(before, replace(old, since=now), RolloutState.SUPERSEDED)
        if old.revision == target.revision.number and old.state is not RolloutState.COMPLETED:
            # Another try: what is left of the first one is replaced as well.
            generation = next_generation(before)
    fallback = settled_before(before)
    if fallback is not None and (fallback.revision.number, fallback.generation) == (target.revision.number, generation):
        fallback = None
    rollout = Rollout(
        cause=cause,
        revision=target.revision.number,
        generation=generation,
        state=RolloutState.PREPARING,
        since=now,
        started_at=now,
        progressed_at=now,
        fallback=fallback,
    )
    events.append(
        ev.RolloutStarted(
            at=now,
            service=target.service.name,
            revision=rollout.revision,
            cause=cause,
            previous=fallback.revision.number if fallback is not None else None,
        )
    )
    return replace(target, generation=generation, rollout=rollout, outcomes=outcomes), tuple(events)


def next_generation(before: Target) -> int:
    """One that no replica of the service has, also where the last restart was taken back."""
    return max(before.generation, before.rollout.generation if before.rollout is not None else 0) + 1


def knowing(desired: Desired, current: Desired | None, refused: Collection[str]) -> Desired:
    """`desired`, with what Envoy refuses already noted in the rollouts that begin by it. One that takes the place of
    another under way answers for that one's refusals too."""
    targets = dict(desired.targets)
    for name, target in desired.targets.items():
        rollout = target.rollout
        if rollout is None or rollout.state is not RolloutState.PREPARING or rollout.started_at != desired.at:
            continue
        before = current.targets.get(name) if current is not None else None
        last = before.rollout if before is not None else None
        known = last.refused_before if last is not None and last.under_way else tuple(sorted(refused))
        if known:
            targets[name] = replace(target, rollout=replace(rollout, refused_before=known))
    return replace(desired, targets=targets)


def settled_before(before: Target | None) -> Fallback | None:
    """The last that was completely rolled out, as it was wanted."""
    if before is None:
        return None
    if before.rollout is not None and before.rollout.state not in (
        RolloutState.COMPLETED,
        RolloutState.ROLLED_BACK,
        RolloutState.ROLLING_BACK,
    ):
        return before.rollout.fallback
    return Fallback(revision=before.revision, generation=before.generation, replicas=before.replicas)


def scaled(target: Target, replicas: int) -> Target:
    """Also of the revision that it may return to: who scales means the service."""
    rollout = target.rollout
    if rollout is not None and rollout.fallback is not None and rollout.under_way:
        rollout = replace(rollout, fallback=replace(rollout.fallback, replicas=replicas))
    return replace(target, replicas=replicas, rollout=rollout)


def compared(desired: Desired) -> frozenset[str]:
    """Services of which two revisions answer requests, or soon will."""
    return frozenset(
        name
        for name, target in desired.targets.items()
        if (rollout := target.rollout) is not None
        and rollout.state in (RolloutState.PREPARING, RolloutState.CANARY, RolloutState.ROLLING)
        and rollout.fallback is not None
        and rollout.fallback.revision.number != rollout.revision
    )


_WITHIN_A_STATE = (RolloutTrigger.PROGRESSED, RolloutTrigger.JUDGED, RolloutTrigger.STEPPED)


def moved(desired: Desired, action: act.MoveRollout, now: float) -> tuple[Desired, tuple[ev.RolloutEvent, ...]] | None:
    """What is desired then, and what has happened by it. None: the rollout does not move that way (any more)."""
    target = desired.targets.get(action.service)
    if target is None or target.rollout is None:
        return None
    rollout, trigger = target.rollout, action.trigger
    state = rollout_after(rollout.state, trigger)
    if state is rollout.state and trigger not in _WITHIN_A_STATE:
        return None
    number, name = rollout.revision, action.service
    on = replace(rollout, state=state, since=now, progressed_at=now, settled=0, comparison=None)
    match trigger:
        case RolloutTrigger.PROGRESSED:
            step = replace(rollout, progressed_at=now, settled=action.settled)
            told: ev.RolloutEvent = ev.RolloutAdvanced(
                at=now, service=name, revision=target.revision.number, state=state.value, reason=action.reason
            )
            return _set(desired, replace(target, rollout=step)), (told,)
        case RolloutTrigger.PREPARED | RolloutTrigger.PREPARED_CANARY | RolloutTrigger.PROMOTED:
            told = ev.RolloutAdvanced(at=now, service=name, revision=number, state=state.value, reason=action.reason)
            return _set(desired, replace(target, rollout=on)), (told,)
        case RolloutTrigger.STEPPED:
            step = replace(on, step=rollout.step + 1)
            told = ev.RolloutAdvanced(at=now, service=name, revision=number, state=state.value, reason=action.reason)
            return _set(desired, replace(target, rollout=step)), (told,)
        case RolloutTrigger.JUDGED:
            looks = rollout.looks + (action.comparison is not None and action.comparison.looks > 0)
            step = replace(rollout, comparison=action.comparison, looks=looks)
            told = ev.RolloutAdvanced(at=now, service=name, revision=number, state=state.value, reason=action.reason)
            return _set(desired, replace(target, rollout=step)), (told,)
        case RolloutTrigger.REPLACED:
            on = replace(on, reason="", tail=())
            done = replace(target, rollout=on, outcomes=with_outcome(target, on, state))
            told = ev.RolloutCompleted(at=now, service=name, revision=number, took_s=now - rollout.started_at)
            return _set(desired, done), (told,)
        case RolloutTrigger.RESTORED:
            told = ev.RolledBack(at=now, service=name, revision=target.revision.number, failed=number)
            return _set(desired, replace(target, rollout=on)), (told,)
        case RolloutTrigger.FAILED | RolloutTrigger.FAILED_ALONE:
            on = replace(on, reason=action.reason, tail=action.tail)
            if trigger is RolloutTrigger.FAILED and rollout.fallback is not None:
                back = returned(desired, target, on, rollout.fallback)
                if back is not None:
                    return back
                on = replace(on, state=rollout_after(rollout.state, RolloutTrigger.FAILED_ALONE))
            outcomes = with_outcome(target, on, RolloutState.FAILED)
            stays = replace(target, rollout=on, outcomes=outcomes)
            return _set(desired, stays), (failed(on, name, None),)
        case RolloutTrigger.SUPERSEDED:
            return None  # by `started`, for that takes a newer one


def _set(desired: Desired, target: Target) -> Desired:
    return replace(desired, targets={**desired.targets, target.service.name: target})


def words(event: ev.RolloutEvent) -> tuple[str, dict[str, object]]:
    """How it reads in the journal, and what a machine wants of it."""
    match event:
        case ev.RolloutStarted():
            instead = f" in the place of revision {event.previous}" if event.previous is not None else ""
            return (
                f"{event.cause}: revision {event.revision} is rolled out{instead}",
                {"revision": event.revision, "previous": event.previous, "cause": event.cause},
            )
        case ev.RolloutAdvanced():
            return event.reason, {"revision": event.revision, "state": event.state}
        case ev.RolloutCompleted():
            return (
                f"revision {event.revision} is rolled out, after {event.took_s:.1f} s",
                {"revision": event.revision, "took_s": event.took_s},
            )
        case ev.RolloutFailed():
            then = (
                f"; it goes back to revision {event.previous}"
                if event.previous is not None
                else "; there is nothing to go back to, so it is tried again"
            )
            return (
                f"revision {event.revision} failed: {event.reason}{then}",
                {
                    "revision": event.revision,
                    "previous": event.previous,
                    "reason": event.reason,
                    "tail": list(event.tail),
                },
            )
        case ev.RolledBack():
            return (
                f"is back at revision {event.revision}, all as before revision {event.failed}",
                {"revision": event.revision, "failed": event.failed},
            )
        case ev.RolloutSuperseded():
            return (
                f"revision {event.revision} is rolled out no further: revision {event.by} takes its place",
                {"revision": event.revision, "by": event.by},
            )
