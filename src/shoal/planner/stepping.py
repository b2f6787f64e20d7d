"""A canary: a few new replicas beside the old ones, with a share of the requests, until that share is judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil

from shoal.model import action as act
from shoal.model.replica import ENDED, ReplicaState
from shoal.model.rollout import CanaryStep, Rollout, RolloutTrigger
from shoal.model.verdict import Verdict
from shoal.model.world import Desired, Observed, Target
from shoal.planner.keeping import Standing, hold, keep
from shoal.planner.steps import Step, Wait


def canaries(target: Target, step: CanaryStep) -> int:
    """How many replicas the share of requests needs; one at least, unless none are wanted."""
    return min(target.replicas, 1) and max(1, ceil(target.replicas * step.percent / 100))


def share(
    target: Target, rollout: Rollout, stands: Standing, desired: Desired, observed: Observed, now: float
) -> Iterator[Step]:
    """As many new replicas as the step needs, old ones for the rest: never fewer that serve than wanted (but for
    `unavailable`), never more than `surge` beyond them, so that an old one leaves only where both would be more."""
    wanted, policy = target.replicas, target.service.rollout
    surge = policy.surge
    goal = canaries(target, rollout.steps[rollout.step])
    old = max(wanted + surge - goal, wanted - policy.unavailable - len(stands.settled))
    old = min(old, max(len(stands.stale), wanted + surge - len(stands.current)))  # those that come back need room too
    new = min(goal, max(len(stands.current), wanted + surge - len(stands.stale)))
    serving = sum(replica.state is ReplicaState.READY for replica in stands.stale)
    # More new ones than the step needs, from an earlier try, leave only where old ones serve in their place.
    new = max(new, min(len(stands.current), wanted - policy.unavailable - serving))
    steps = list(keep(replace(target, replicas=new), replace(stands, stale=()), desired, observed, now))
    yield from steps
    before = list(hold(replace(target, replicas=old), list(stands.stale), observed, now))
    if any(isinstance(step, act.StartReplica) for step in steps):
        before = [step for step in before if not isinstance(step, act.StartReplica)]  # numbers are given once a turn
    yield from before


def advance(target: Target, rollout: Rollout, stands: Standing, now: float) -> Step:
    """What the canary waits for, or where it goes on by itself."""
    name, step = target.service.name, rollout.steps[rollout.step]
    share_words = f"revision {rollout.revision} gets {step.percent:g} % of the requests"
    comparison = rollout.comparison
    if not target.replicas:
        return act.MoveRollout(
            service=name, trigger=RolloutTrigger.PROMOTED, reason="scaled to 0: there is nothing to try out"
        )
    if comparison is None:
        if len(stands.settled) >= canaries(target, step) and all(r.state in ENDED for r in stands.current):
            done = "its replicas have done what they should, and serve nobody"
            return act.MoveRollout(service=name, trigger=RolloutTrigger.PROMOTED, reason=done)
        return Wait(subject=name, reason=f"{share_words} once a replica of it is ready")
    by_hand = f"shoal promote {name}, or shoal abort {name}"
    if comparison.verdict is Verdict.PASS:
        due = comparison.since + step.wait_s
        if not rollout.auto:
            return Wait(subject=name, reason=f"{share_words} and passes: {by_hand}")
        if now < due:
            return Wait(subject=name, reason=f"{share_words} and passes so far", until=due)
        last = rollout.step + 1 == len(rollout.steps)
        trigger = RolloutTrigger.PROMOTED if last else RolloutTrigger.STEPPED
        return act.MoveRollout(
            service=name, trigger=trigger, reason=f"passes at {step.percent:g} %: {comparison.words}"
        )
    words = comparison.words or "nothing is judged yet"
    until = comparison.since + step.wait_s_max
    if now < until:
        return Wait(subject=name, reason=f"{share_words}: {words}", until=until)
    return Wait(subject=name, reason=f"stands at {step.percent:g} %, inconclusive: {words}; {by_hand}")
