"""One service: heal what crashed, replace what is old, start what is missing, drain what is too much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shoal.model import action as act
from shoal.model.replica import Replica, ReplicaState
from shoal.model.rollout import Fallback, RolloutState
from shoal.model.world import Desired, Observed, Target
from shoal.planner import barriers, restarting
from shoal.planner.defaults import EDGES_S_MAX, ROLLOUT_CRASHES
from shoal.planner.healing import backoff_s, restarts_at, words
from shoal.planner.steps import Step, Wait, first_start


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A service's replicas, those that leave left out, by what they are to its target."""

    current: tuple[Replica, ...]
    """Of the target's revision and generation."""
    stale: tuple[Replica, ...]
    settled: tuple[Replica, ...]
    """Of the current ones: ready for long enough to count, or completed."""
    settling: tuple[tuple[Replica, float], ...]
    """Of the current ones: ready, and when each counts."""

    @property
    def serving(self) -> list[Replica]:
        """Stale ones that are ready."""
        return [r for r in self.stale if r.state is ReplicaState.READY]


def standing(target: Target, replicas: list[Replica], now: float, *, dev: bool) -> Standing:
    """`dev`: a new replica counts as soon as it is ready. So does one of a first rollout: no other could serve longer
    in its place."""
    first = target.rollout is not None and target.rollout.fallback is None
    settle_s = 0.0 if dev or first else target.service.rollout.min_healthy_s
    current, stale = [], []
    settled, settling = [], []
    for replica in replicas:
        if replica.leaving:
            continue
        if not target.is_current(replica):
            stale.append(replica)
            continue
        current.append(replica)
        counts_at = (replica.ready_since or now) + settle_s
        if replica.state is ReplicaState.COMPLETED or (replica.state is ReplicaState.READY and now >= counts_at):
            settled.append(replica)
        elif replica.state is ReplicaState.READY:
            settling.append((replica, counts_at))
    return Standing(current=tuple(current), stale=tuple(stale), settled=tuple(settled), settling=tuple(settling))


def keep(target: Target, stands: Standing, desired: Desired, observed: Observed, now: float) -> Iterator[Step]:
    """Towards as many replicas of the target's kind as are wanted, and no others."""
    wanted, policy = target.replicas, target.service.rollout
    grace_s = target.service.draining.grace_s
    current, stale = list(stands.current), list(stands.stale)
    surplus = _surplus(current, wanted)

    hopeless = desired.app.dev and any(r.state is ReplicaState.READY for r in stale)
    yield from _heal([r for r in current if r not in surplus], grace_s, now, hopeless=hopeless)
    for replica in surplus:
        yield act.DrainReplica(replica=replica.id, reason=f"{len(current)} replicas run, {wanted} are wanted")

    missing = wanted - len(current)
    room = wanted + policy.surge - len(current) - len(stale) if stale else missing
    held = _held_back(target, [*current, *stale], desired, observed, now) if missing > 0 else None
    if held is not None:
        yield held
    elif (starts := min(missing, room)) > 0:
        yield from _start(target, starts, missing, bool(stale), observed)
    if stale or (target.rollout is not None and target.rollout.state is not RolloutState.COMPLETED):
        # Also with nothing old left: somebody must look again when the last one counts.
        for replica, counts_at in stands.settling:
            settle_s = counts_at - (replica.ready_since or now)
            yield Wait(subject=replica.id, reason=f"ready; counts after {words(settle_s)}", until=counts_at)
    if stale:
        fallback = target.rollout.fallback if target.rollout is not None else None
        least = wanted if held is not None else max(0, wanted - policy.unavailable)
        yield from _replace(target, least, stands, fallback, now)


def hold(target: Target, replicas: list[Replica], observed: Observed, now: float) -> Iterator[Step]:
    """While a revision is made ready: what serves goes on, what crashed comes back as it was, nothing is replaced. A
    service of which nothing runs waits."""
    fallback = target.rollout.fallback if target.rollout is not None else None
    grace_s = target.service.draining.grace_s
    there = [r for r in replicas if not r.leaving]
    surplus = _surplus(there, target.replicas)
    for replica in surplus:
        yield act.DrainReplica(replica=replica.id, reason=f"{len(there)} replicas run, {target.replicas} are wanted")
    yield from _heal([r for r in there if r not in surplus and is_of(r, fallback)], grace_s, now, hopeless=False)
    missing = target.replicas - len(there)
    if fallback is not None and there and missing > 0:
        before = Target(revision=fallback.revision, replicas=target.replicas, generation=fallback.generation)
        yield from _start(before, missing, missing, False, observed)


def is_of(replica: Replica, fallback: Fallback | None) -> bool:
    return (
        fallback is not None
        and replica.revision == fallback.revision.number
        and replica.generation == fallback.generation
    )


def _surplus(current: list[Replica], wanted: int) -> list[Replica]:
    """The least useful first: not ready before ready, younger before older."""
    by_use = sorted(current, key=lambda r: (r.state is ReplicaState.READY, -r.number))
    return by_use[: max(0, len(current) - wanted)]


def _heal(replicas: list[Replica], grace_s: float, now: float, *, hopeless: bool) -> Iterator[Step]:
    """`hopeless`: what ended stays ended, for an older one serves and only other code can help."""
    for replica in replicas:
        if replica.state is ReplicaState.RESTARTING:
            yield from restarting.restart(replica, grace_s, now)
        if replica.state is not ReplicaState.BACKING_OFF:
            continue
        at = restarts_at(replica)
        why = replica.last_exit.reason if replica.last_exit else "it ended"
        delay = words(backoff_s(replica.strikes))
        if hopeless:
            yield Wait(subject=replica.id, reason=f"{why}; the older one serves until the code changes")
        elif now < at:
            crashes = f" after {replica.crashes} crashes in a row" if replica.crashes > 1 else ""
            yield Wait(subject=replica.id, reason=f"{why}; starts again after a back-off of {delay}{crashes}", until=at)
        else:
            yield act.StartReplica(
                replica=replica.id,
                service=replica.service,
                number=replica.number,
                revision=replica.revision,
                generation=replica.generation,
                attempt=replica.attempt + 1,
                restart=replica.restart,
                stop_signal=replica.stop_signal,
                reason=f"{why}; back-off of {delay} is over",
            )


def _held_back(
    target: Target, replicas: list[Replica], desired: Desired, observed: Observed, now: float
) -> Wait | None:
    """Why nothing of this service may start yet; None when it may."""
    name = target.service.name
    if observed.mesh_generation < desired.generation and now < desired.at + EDGES_S_MAX:
        return Wait(subject=name, reason="waits for Envoy to listen on its edges", until=desired.at + EDGES_S_MAX)
    if replicas:
        return None  # `after:` orders the first start only
    for other in target.service.after:
        reason = barriers.waits_for(target.service.barrier(other), desired.targets.get(other), other, observed)
        if reason:
            return Wait(subject=name, reason=f"after: {reason}")
    return None


def _start(target: Target, starts: int, missing: int, replaces: bool, observed: Observed) -> Iterator[Step]:
    name = target.service.name
    first = observed.next_number.get(name, 1)
    reason = (
        f"replaces an older one by revision {target.revision.number}"
        if replaces
        else f"{missing} of {target.replicas} replicas missing"
    )
    for number in range(first, first + starts):
        yield first_start(target, number, reason)


def _replace(target: Target, least: int, stands: Standing, fallback: Fallback | None, now: float) -> Iterator[Step]:
    """Start-first: an old replica that serves leaves only when at least `least` serve without it."""
    name, grace_s = target.service.name, target.service.draining.grace_s
    serving = stands.serving
    settled = len(stands.settled)
    comes_back = [r for r in stands.stale if settled < least and _comes_back(r, fallback)]
    for replica in stands.stale:
        if replica.state is not ReplicaState.READY and replica not in comes_back:
            yield act.DrainReplica(replica=replica.id, reason="is of another revision and does not serve")
    yield from _heal(comes_back, grace_s, now, hopeless=False)
    spare = max(0, settled + len(serving) - least)
    for replica in serving[:spare]:
        yield act.DrainReplica(replica=replica.id, reason="is replaced: a newer one serves")
    if serving[spare:]:
        yield Wait(subject=name, reason=f"{len(serving) - spare} older replicas serve until newer ones do")


def _comes_back(replica: Replica, fallback: Fallback | None) -> bool:
    """An old one that served and crashed, and is needed until its successor serves."""
    if not is_of(replica, fallback) or replica.crashes >= ROLLOUT_CRASHES:
        return False
    again = replica.state is ReplicaState.STARTING and replica.attempt > 1
    return again or replica.state in (ReplicaState.BACKING_OFF, ReplicaState.RESTARTING)
