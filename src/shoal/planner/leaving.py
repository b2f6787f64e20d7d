"""Out of Envoy first; when its requests have ended, or had their time, SIGTERM; then SIGKILL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from shoal.model import action as act
from shoal.model.draining import DEFAULT_DRAINING, Draining
from shoal.model.replica import Replica, ReplicaState
from shoal.model.world import Desired, Observed, ProxyState
from shoal.planner.defaults import DETACH_S_MAX, DETACHED_S, HURRY_S
from shoal.planner.healing import words
from shoal.planner.steps import Step, Wait


def leaving(desired: Desired, observed: Observed, now: float) -> Iterator[Step]:
    for replica in sorted(observed.replicas.not_ready.values(), key=lambda one: one.id):
        match replica.state:
            case ReplicaState.DRAINING:
                yield _drain(replica, desired, observed, now)
            case ReplicaState.STOPPING:
                grace_s = HURRY_S if desired.hurry else draining_of(replica, desired).grace_s
                kill_at = replica.since + grace_s
                if now < kill_at:
                    yield Wait(subject=replica.id, reason=f"stopping: has {replica.stop_signal}", until=kill_at)
                else:
                    late = f"did not end within {words(now - replica.since)} of {replica.stop_signal}"
                    yield act.KillReplica(replica=replica.id, reason=late)
            case ReplicaState.GONE:
                yield act.ForgetReplica(replica=replica.id, reason="its process has ended")
            case ReplicaState.READY | ReplicaState.STARTING | ReplicaState.UNREADY:
                pass
            case ReplicaState.RESTARTING | ReplicaState.BACKING_OFF:
                pass
            case ReplicaState.COMPLETED | ReplicaState.FAILED:
                pass
            case _:
                assert_never(replica.state)


def draining_of(replica: Replica, desired: Desired) -> Draining:
    """What its service says now; the defaults where it was removed from the app."""
    target = desired.targets.get(replica.service)
    return target.service.draining if target is not None else DEFAULT_DRAINING


def down_by(desired: Desired) -> float:
    """Until when all of an app that goes down may drain, service after service: one drain, and that the longest."""
    longest = max((t.service.draining.drain_s for t in desired.targets.values()), default=0.0)
    return desired.down_at + max(longest, DETACH_S_MAX)


def _drain(replica: Replica, desired: Desired, observed: Observed, now: float) -> Step:
    detached = replica.detached_at
    stop_at = replica.since + DETACH_S_MAX if detached is None else detached + DETACHED_S
    if desired.hurry:
        return act.StopReplica(replica=replica.id, reason="hurried: its requests are not waited for")
    if now < stop_at:
        waits_for = "Envoy to let go of it" if detached is None else "its last requests to arrive"
        return Wait(subject=replica.id, reason=f"drains: waits for {waits_for}", until=stop_at)
    reason = f"Envoy did not confirm its removal within {words(DETACH_S_MAX)}" if detached is None else "drained"
    if not _may_have_requests(replica, observed):
        return act.StopReplica(replica=replica.id, reason=reason)
    drain_s = draining_of(replica, desired).drain_s
    until = (replica.since if replica.out_at is None else replica.out_at) + drain_s
    if desired.down:
        until = min(until, max(down_by(desired), replica.since))
    # A count from before Envoy let go of it says nothing of those that were on their way then.
    count = replica.requests if replica.requests_at >= stop_at else None
    if count == 0:
        return act.StopReplica(replica=replica.id, reason=reason)
    what = "how many requests are under way is not known" if count is None else f"{_requests(count)} under way"
    if now < until:
        return Wait(subject=replica.id, reason=f"drains: {what}, {_left(until - now)} left", until=until)
    # With `drain: 0s` nobody waits for them.
    return act.StopReplica(replica=replica.id, reason=f"drained for {drain_s:g} s: {what}" if drain_s else reason)


def _may_have_requests(replica: Replica, observed: Observed) -> bool:
    """Not one that was never ready in this attempt or that nobody can call; nor any without an Envoy: what that had
    under way ended with it."""
    called = replica.address is not None or bool(replica.ports)
    alive = observed.proxy.state not in (ProxyState.STOPPED, ProxyState.BACKING_OFF)
    return replica.out_at is not None and called and alive


def _requests(count: int) -> str:
    return f"{count} request{'' if count == 1 else 's'}"


def _left(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 1 else "less than 1 s"
