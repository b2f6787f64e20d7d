"""A rollout as people see it. Pure."""

from __future__ import annotations

from shoal.model.replica import Replica, ReplicaState
from shoal.model.rollout import Rollout, RolloutState
from shoal.model.status import Health, RolloutStatus
from shoal.model.world import Target


def rollout_status(target: Target, replicas: list[Replica], wait: str) -> RolloutStatus | None:
    """`wait`: what the planner says that the service waits for, in words."""
    rollout = target.rollout
    if rollout is None:
        return None
    ready = [r for r in replicas if r.state is ReplicaState.READY]
    new = sum(_leads_to(rollout, replica) for replica in ready)
    return RolloutStatus(
        state=rollout.state.value,
        cause=rollout.cause,
        revision=rollout.revision,
        previous=rollout.fallback.revision.number if rollout.fallback is not None else None,
        started_at=rollout.started_at,
        since=rollout.since,
        new=new,
        old=len(ready) - new,
        step=_step(target, rollout, new, wait),
        reason=rollout.reason,
        tail=rollout.tail,
    )


def rolling_health(target: Target, replicas: list[Replica], ready: int, wait: str) -> tuple[Health, str] | None:
    """How a service is whose rollout is under way or has failed for good; None: its replicas alone tell."""
    rollout = target.rollout
    if rollout is None:
        return None
    old = f"; {ready} of {target.replicas} older ones serve" if ready else ""
    match rollout.state:
        case RolloutState.PREPARING:
            return Health.STARTING, f"{wait or f'revision {rollout.revision} is made ready'}{old}"
        case RolloutState.ROLLING_BACK:
            return Health.STARTING, f"goes back to revision {target.revision.number}: {rollout.reason}"
        case RolloutState.FAILED:
            serving = f"; {ready} of {target.replicas} ready" if ready else ""
            return Health.FAILING, f"revision {rollout.revision} failed: {rollout.reason}{serving}"
        case _:
            return None


def _leads_to(rollout: Rollout, replica: Replica) -> bool:
    return replica.revision == rollout.revision and replica.generation == rollout.generation


def _step(target: Target, rollout: Rollout, new: int, wait: str) -> str:
    match rollout.state:
        case RolloutState.PREPARING:
            return wait or f"revision {rollout.revision} is made ready"
        case RolloutState.CANARY:
            return wait or f"step {rollout.step + 1} of {len(rollout.steps)}"
        case RolloutState.ROLLING:
            return f"{min(new, target.replicas)} of {target.replicas} replaced"
        case RolloutState.ROLLING_BACK:
            return f"goes back to revision {target.revision.number}"
        case RolloutState.COMPLETED:
            return "done"
        case RolloutState.ROLLED_BACK:
            return f"is back at revision {target.revision.number}"
        case RolloutState.FAILED:
            return "failed, and is tried again"
        case RolloutState.SUPERSEDED:
            return "superseded"
