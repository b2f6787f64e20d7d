"""The change of one service: when its revision is made ready, when it may go on, and when it has failed.

The rollout itself is a part of what is desired; here it is only decided how it moves (`MoveRollout`), and its owner
moves it by the table in `model.rollout`. So a daemon that is killed between any two steps decides the same again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import assert_never

from shoal.model import action as act
from shoal.model.policy import Strategy
from shoal.model.replica import Replica, ReplicaState
from shoal.model.rollout import Release, ReleaseState, Rollout, RolloutState, RolloutTrigger
from shoal.model.world import Desired, Observed, Target
from shoal.planner.canary import CANARY, OBVIOUS
from shoal.planner.comparing import compare, held
from shoal.planner.defaults import PREPARE_BACKOFF_S_FIRST, PREPARE_BACKOFF_S_MAX, ROLLOUT_CRASHES
from shoal.planner.healing import words
from shoal.planner.keeping import Standing, hold, keep, standing
from shoal.planner.refused import refused, withheld
from shoal.planner.stepping import advance, canaries, share
from shoal.planner.steps import Step, Wait


def unsettled(target: Target) -> bool:
    """Whether its rollout needs a look, whatever its replicas are like."""
    return target.rollout is not None and target.rollout.state not in (
        RolloutState.COMPLETED,
        RolloutState.ROLLED_BACK,
        RolloutState.SUPERSEDED,
    )


def roll(target: Target, replicas: list[Replica], desired: Desired, observed: Observed, now: float) -> Iterator[Step]:
    """One service. `replicas`: all of it, by number."""
    rollout = target.rollout
    stands = standing(target, replicas, now, dev=desired.app.dev)
    if rollout is None:
        yield from keep(target, stands, desired, observed, now)
        return
    match rollout.state:
        case RolloutState.PREPARING:
            yield from _prepare(target, rollout, observed, now)
            yield from hold(target, replicas, observed, now)
        case RolloutState.CANARY:
            if failed := _failed(target, rollout, stands, observed, now):
                yield failed
                return
            refusal = refused(target, rollout, observed, now, fails=fails_with(target, rollout))
            if isinstance(refusal, act.MoveRollout):
                yield refusal
                return
            yield from [refusal] if refusal else []
            step = rollout.steps[rollout.step]
            if judged := compare(
                target,
                rollout,
                stands,
                observed,
                now,
                fails=fails_with(target, rollout),
                tolerance=CANARY,
                samples_min=step.samples_min,
            ):
                yield judged
                return
            shared = list(share(target, rollout, stands, desired, observed, now))
            some = replace(target, replicas=canaries(target, step))
            late = _deadline(some, _counted_anew(rollout, stands), replace(stands, stale=()), shared, now)
            if isinstance(late, act.MoveRollout):
                yield late
                return
            if rollout.settled < len(stands.settled) <= some.replicas:
                many = f"{len(stands.settled)} of {some.replicas} replicas for {step.percent:g} % of the requests"
                yield act.MoveRollout(
                    service=target.service.name,
                    trigger=RolloutTrigger.PROGRESSED,
                    settled=len(stands.settled),
                    reason=f"{many} are ready",
                )
            yield advance(target, rollout, stands, now)
            yield from shared
        case RolloutState.ROLLING:
            # Before more is done with a revision that has failed already.
            if failed := _failed(target, rollout, stands, observed, now):
                yield failed
                return
            refusal = refused(target, rollout, observed, now, fails=fails_with(target, rollout))
            if isinstance(refusal, act.MoveRollout):
                yield refusal
                return
            if judged := compare(
                target, rollout, stands, observed, now, fails=fails_with(target, rollout), tolerance=OBVIOUS, first=0
            ):
                yield judged
                return
            steps = list(_replace(target, rollout, stands, desired, observed, now, RolloutTrigger.REPLACED))
            yield from withheld(held(target, rollout, stands, observed, now, steps), refusal, stands)
        case RolloutState.ROLLING_BACK:
            yield from _replace(target, rollout, stands, desired, observed, now, RolloutTrigger.RESTORED)
        case RolloutState.FAILED:
            release = _release(target, rollout, observed)
            if release is None or release.state is not ReleaseState.PREPARED:
                yield from _prepare_again(target, release, now)
                yield from hold(target, replicas, observed, now)
                return
            returns = target.revision.number != rollout.revision or target.generation != rollout.generation
            trigger = RolloutTrigger.RESTORED if returns else RolloutTrigger.REPLACED
            yield from _took_over(target, rollout, stands, trigger)
            yield from keep(target, stands, desired, observed, now)
        case RolloutState.COMPLETED | RolloutState.ROLLED_BACK | RolloutState.SUPERSEDED:
            yield from keep(target, stands, desired, observed, now)
        case _:
            assert_never(rollout.state)


def fails_with(target: Target, rollout: Rollout) -> RolloutTrigger:
    """Back where there is something to return to, and the app file lets it."""
    if rollout.fallback is None or not target.service.rollout.rollback or rollout.state is RolloutState.ROLLING_BACK:
        return RolloutTrigger.FAILED_ALONE
    return RolloutTrigger.FAILED


def _release(target: Target, rollout: Rollout, observed: Observed) -> Release | None:
    """What was made for this rollout; that of an earlier one says nothing: it may be tried again, or be gone."""
    release = observed.releases.get((target.service.name, target.revision.number))
    if release is None or (release.state is not ReleaseState.PREPARING and release.since < rollout.started_at):
        return None
    return release


def _prepare(target: Target, rollout: Rollout, observed: Observed, now: float) -> Iterator[Step]:
    """The steps before the first replica, each once for a revision: what the engine makes, then whatever else must
    have happened (a migration)."""
    name, number = target.service.name, target.revision.number
    release = _release(target, rollout, observed)
    if release is None:
        yield act.PrepareRevision(service=name, revision=number, reason=rollout.cause)
        return
    match release.state:
        case ReleaseState.PREPARING:
            what = release.progress or f"revision {number} is made ready"
            yield Wait(subject=name, reason=what)
        case ReleaseState.PREPARED:
            canary = rollout.strategy is Strategy.CANARY and bool(rollout.steps)
            trigger = RolloutTrigger.PREPARED_CANARY if canary else RolloutTrigger.PREPARED
            yield act.MoveRollout(service=name, trigger=trigger, reason=f"revision {number} is ready to start")
        case ReleaseState.FAILED:
            yield act.MoveRollout(
                service=name, trigger=fails_with(target, rollout), reason=release.error, tail=release.tail
            )
        case _:
            assert_never(release.state)


def _prepare_again(target: Target, release: Release | None, now: float) -> Iterator[Step]:
    """Where there is nothing to return to, it is tried until it works or other code comes."""
    name, number = target.service.name, target.revision.number
    if release is None:
        yield act.PrepareRevision(service=name, revision=number, reason="it failed; it is tried again")
    elif release.state is ReleaseState.PREPARING:
        yield Wait(subject=name, reason=release.progress or f"revision {number} is made ready")
    else:
        delay = min(PREPARE_BACKOFF_S_MAX, PREPARE_BACKOFF_S_FIRST * 2.0 ** min(release.failures - 1, 16))
        at = release.since + delay
        if now < at:
            yield Wait(subject=name, reason=f"{release.error}; tried again after {words(delay)}", until=at)
        else:
            yield act.PrepareRevision(service=name, revision=number, reason=f"{release.error}; tried again")


def _failed(
    target: Target, rollout: Rollout, stands: Standing, observed: Observed, now: float
) -> act.MoveRollout | None:
    """What says, before the deadline, that the new revision is no good."""
    for replica in stands.current:
        end = replica.last_exit
        if replica.state is ReplicaState.FAILED or replica.crashes >= ROLLOUT_CRASHES:
            why = end.reason if end else "it ended"
            times = f", {replica.crashes} times in a row" if replica.crashes > 1 else ""
            return act.MoveRollout(
                service=target.service.name,
                trigger=fails_with(target, rollout),
                reason=f"{replica.id} crashed: {why}{times}",
                tail=end.tail if end else (),
            )
    return None


def _replace(
    target: Target,
    rollout: Rollout,
    stands: Standing,
    desired: Desired,
    observed: Observed,
    now: float,
    ended: RolloutTrigger,
) -> Iterator[Step]:
    steps = list(keep(target, stands, desired, observed, now))
    overdue = _deadline(target, rollout, stands, steps, now)
    if isinstance(overdue, act.MoveRollout):
        yield overdue  # and nothing more of what has failed is started
        return
    yield from _took_over(target, rollout, stands, ended)
    yield from [overdue] if overdue else []
    yield from steps


def _took_over(target: Target, rollout: Rollout, stands: Standing, ended: RolloutTrigger) -> Iterator[Step]:
    name, settled = target.service.name, len(stands.settled)
    words_ = f"{min(settled, target.replicas)} of {target.replicas} replicas are of revision {target.revision.number}"
    if settled >= target.replicas and not stands.stale:
        yield act.MoveRollout(service=name, trigger=ended, reason=words_)
    elif rollout.settled < settled <= target.replicas and rollout.state is not RolloutState.FAILED:
        if rollout.state is RolloutState.ROLLING_BACK and settled == target.replicas:
            return  # the old ones never left; all that is awaited is the end of the new ones
        yield act.MoveRollout(service=name, trigger=RolloutTrigger.PROGRESSED, settled=settled, reason=words_)


def _counted_anew(rollout: Rollout, stands: Standing) -> Rollout:
    """A step may last for hours: a replica that comes back in it has the whole deadline."""
    unsettled = [replica for replica in stands.current if replica not in stands.settled]
    since = max((replica.started_at or replica.since for replica in unsettled), default=rollout.progressed_at)
    return replace(rollout, progressed_at=max(rollout.progressed_at, since))


def _deadline(target: Target, rollout: Rollout, stands: Standing, steps: list[Step], now: float) -> Step | None:
    """Counts from the last replica that settled, or the first start; not while `after:` holds the first one back."""
    name, policy = target.service.name, target.service.rollout
    held = any(isinstance(step, Wait) and step.subject == name and step.reason.startswith("after:") for step in steps)
    if held or not stands.current:
        return None
    begun = min(r.started_at or r.since for r in stands.current)
    until = max(rollout.progressed_at, begun) + policy.deadline_s
    if len(stands.settled) >= target.replicas and not stands.stale:
        return None
    if now < until:
        return Wait(subject=name, reason=f"{rollout.cause}: replaces what is older", until=until)
    reason = f"{len(stands.settled)} of {target.replicas} ready, and no more within {words(policy.deadline_s)}"
    late = next((r for r in stands.current if r not in stands.settled), None)
    tail: tuple[str, ...] = ()
    if late is not None:
        why = late.probe_detail or late.progress or (late.last_exit.reason if late.last_exit else "")
        reason += f": {late.id} is {late.state}" + (f", {why}" if why else "")
        tail = late.last_exit.tail if late.last_exit else ()
    return act.MoveRollout(service=name, trigger=fails_with(target, rollout), reason=reason, tail=tail)
