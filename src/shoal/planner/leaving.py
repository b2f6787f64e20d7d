"""Out of Envoy first, then SIGTERM, then SIGKILL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from shoal.model import action as act
from shoal.model.replica import ReplicaState
from shoal.model.world import Observed
from shoal.planner.defaults import DETACH_S_MAX, DETACHED_S, STOP_S
from shoal.planner.healing import words
from shoal.planner.steps import Step, Wait


def leaving(observed: Observed, now: float) -> Iterator[Step]:
    for replica in sorted(observed.replicas.not_ready.values(), key=lambda one: one.id):
        match replica.state:
            case ReplicaState.DRAINING:
                detached = replica.detached_at
                stop_at = replica.since + DETACH_S_MAX if detached is None else detached + DETACHED_S
                if now < stop_at:
                    waits_for = "Envoy to let go of it" if detached is None else "its last requests to arrive"
                    yield Wait(subject=replica.id, reason=f"drains: waits for {waits_for}", until=stop_at)
                else:
                    reason = (
                        f"Envoy did not confirm its removal within {words(DETACH_S_MAX)}"
                        if detached is None
                        else "drained"
                    )
                    yield act.StopReplica(replica=replica.id, reason=reason)
            case ReplicaState.STOPPING:
                kill_at = replica.since + STOP_S
                if now < kill_at:
                    yield Wait(subject=replica.id, reason=f"stopping: has {replica.stop_signal}", until=kill_at)
                else:
                    late = f"did not end within {words(STOP_S)} of {replica.stop_signal}"
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
