"""What a plan is made of: actions, and waits for what is not done yet."""

from __future__ import annotations

from dataclasses import dataclass

from shoal.model import action as act
from shoal.model.replica import replica_id
from shoal.model.world import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Something that is not done yet, and why."""

    subject: str
    """A replica, a service or `proxy`."""
    reason: str
    until: float | None = None
    """When to look again. None: when an event says so."""


Step = act.Action | Wait


def first_start(target: Target, number: int, reason: str) -> act.StartReplica:
    """Of a new replica, as its target is now."""
    name = target.service.name
    return act.StartReplica(
        replica=replica_id(name, number),
        service=name,
        number=number,
        revision=target.revision.number,
        generation=target.generation,
        attempt=1,
        restart=target.service.restart,
        stop_signal=target.service.stop_signal,
        reason=reason,
    )
