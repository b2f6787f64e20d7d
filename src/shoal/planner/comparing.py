"""While a revision takes over, what it answers is compared with what the one before it does (`planner.canary`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from shoal.model import action as act
from shoal.model.replica import ReplicaState
from shoal.model.rollout import Rollout, RolloutTrigger
from shoal.model.signals import Traffic, since
from shoal.model.verdict import Comparison, Tolerance, Verdict
from shoal.model.world import Observed, Target
from shoal.planner.canary import SAMPLES_MIN, judge, look_at
from shoal.planner.keeping import Standing
from shoal.planner.steps import Step, Wait

QUIET_S = 1.0
"""No request to either revision for this long: there is no traffic to wait for."""
FIRST_REQUESTS_S_MAX = 10.0
"""How long a rolling update waits until its first replica has answered enough to be judged."""
FIRST_ERRORS_S_MAX = 30.0
"""The same, when some of its answers were errors: after five of them in a row, Envoy sends it nothing for a while."""


def compare(
    target: Target,
    rollout: Rollout,
    stands: Standing,
    observed: Observed,
    now: float,
    *,
    fails: RolloutTrigger,
    tolerance: Tolerance,
    samples_min: int = SAMPLES_MIN,
    first: int = 1,
) -> act.MoveRollout | None:
    """The start of the comparison, once a new replica serves; then each look that is due. `fails`: what a bad verdict
    leads to; `first`: the number of the first look. None: nothing is due, or there is nothing to compare with."""
    name, before = target.service.name, rollout.fallback
    if before is None or before.revision.number == rollout.revision or not observed.traffic_at:
        return None
    comparison = rollout.comparison
    if comparison is None:
        if not any(replica.state is ReplicaState.READY for replica in stands.current):
            return None
        new, old = (_counted(observed, name, number) for number in (rollout.revision, before.revision.number))
        return act.MoveRollout(
            service=name,
            trigger=RolloutTrigger.JUDGED,
            comparison=Comparison(since=now, new=new, old=old),
            reason=f"what revision {new.revision} answers is compared with revision {old.revision}",
        )
    new, old = _since(comparison, observed)
    # Envoy tells of times a little later than of the requests; failed ones may have none.
    if min(new.requests, sum(new.latency) + new.errors) < look_at(comparison.looks + first):
        return None
    found = judge(new, old, look=rollout.looks + 1, samples_min=samples_min, tolerance=tolerance, fewest=look_at(first))
    if found.verdict is Verdict.FAIL:
        return act.MoveRollout(service=name, trigger=fails, reason=found.words)
    looked = replace(comparison, looks=comparison.looks + 1, verdict=found.verdict, words=found.words)
    return act.MoveRollout(service=name, trigger=RolloutTrigger.JUDGED, comparison=looked, reason=found.words)


def held(
    target: Target, rollout: Rollout, stands: Standing, observed: Observed, now: float, steps: list[Step]
) -> Iterator[Step]:
    """`steps` without those that take an old replica away which serves, until the new ones have answered enough for a
    first look: what is obviously bad is found while the old ones are all there. Without traffic nothing waits."""
    wait = _first_requests(target, rollout, observed, now)
    if wait is None:
        yield from steps
        return
    serving = {replica.id for replica in stands.serving}
    yield from (step for step in steps if not (isinstance(step, act.DrainReplica) and step.replica in serving))
    yield wait


def _first_requests(target: Target, rollout: Rollout, observed: Observed, now: float) -> Wait | None:
    comparison = rollout.comparison
    if comparison is None or comparison.looks:
        return None
    new, old = _since(comparison, observed)
    until = comparison.since + (FIRST_ERRORS_S_MAX if new.errors else FIRST_REQUESTS_S_MAX)
    quiet = observed.traffic_at >= comparison.since + QUIET_S and not new.requests and not old.requests
    if now >= until or quiet:
        return None
    reason = f"revision {new.revision} has answered {new.requests} of the first {look_at(0)} requests"
    return Wait(subject=target.service.name, reason=reason, until=until)


def _since(comparison: Comparison, observed: Observed) -> tuple[Traffic, Traffic]:
    """What both answered since then: new, old."""
    start = comparison.new, comparison.old
    new, old = (since(_counted(observed, one.service, one.revision), one) for one in start)
    return new, old


def _counted(observed: Observed, service: str, revision: int) -> Traffic:
    return observed.traffic.get((service, revision)) or Traffic(service=service, revision=revision)
