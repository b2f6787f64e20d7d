"""The way of a replica that its liveness or startup probe has condemned: out of Envoy first, the restart second."""

from __future__ import annotations

from collections.abc import Iterator

from shoal.model import action as act
from shoal.model.replica import Replica
from shoal.planner.defaults import DETACH_S_MAX, DETACHED_S
from shoal.planner.healing import words
from shoal.planner.steps import Step, Wait


def restart(replica: Replica, grace_s: float, now: float) -> Iterator[Step]:
    """Of a RESTARTING one, whose requests are not waited for: it hangs. When its process has ended, it backs off and
    starts again as after a crash."""
    if replica.told_at is not None:
        kill_at = replica.told_at + grace_s
        if now < kill_at:
            reason = f"restarts: has {replica.stop_signal}; {replica.doomed}"
            yield Wait(subject=replica.id, reason=reason, until=kill_at)
        else:
            late = f"did not end within {words(grace_s)} of {replica.stop_signal}; {replica.doomed}"
            yield act.KillReplica(replica=replica.id, reason=late)
        return
    detached = replica.detached_at
    stop_at = replica.since + DETACH_S_MAX if detached is None else detached + DETACHED_S
    if now < stop_at:
        yield Wait(subject=replica.id, reason=f"restarts once Envoy let go of it: {replica.doomed}", until=stop_at)
    else:
        yield act.StopReplica(replica=replica.id, reason=replica.doomed)
