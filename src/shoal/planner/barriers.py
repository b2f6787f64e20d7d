"""`after:`: whether what a service waits for has come about."""

from __future__ import annotations

from typing import assert_never

from shoal.model.app import Barrier
from shoal.model.replica import ENDED, ReplicaState
from shoal.model.world import Observed, Target


def waits_for(barrier: Barrier, target: Target | None, other: str, observed: Observed) -> str:
    """What is missing, in words; empty: nothing. `target`: of `other`, None when it is not in the app any more."""
    replicas = [r for r in observed.of(other) if not r.leaving]
    match barrier:
        case Barrier.READY:
            ok, words = any(r.state is ReplicaState.READY for r in replicas), f"waits for a ready replica of {other}"
        case Barrier.STARTED:
            ok, words = any(r.pid is not None or r.state in ENDED for r in replicas), f"waits for {other} to start"
        case Barrier.COMPLETED:
            # An older revision's success says nothing of this one's: the migration of today is not that of yesterday.
            replicas = [r for r in replicas if target is None or target.is_current(r)]
            ok = bool(replicas) and all(r.state is ReplicaState.COMPLETED for r in replicas)
            words = f"waits for {other} to complete"
        case _:
            assert_never(barrier)
    if ok:
        return ""
    failed = next((r for r in replicas if r.state is ReplicaState.FAILED), None)
    if failed is not None and failed.last_exit is not None:
        words += f", which failed: {failed.last_exit.reason}"
    return words
