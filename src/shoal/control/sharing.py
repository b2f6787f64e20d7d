"""How requests are shared between two revisions of a service while a canary is under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shoal.mesh.canary import Canary, weights
from shoal.mesh.endpoints import Endpoint
from shoal.model.rollout import RolloutState
from shoal.model.world import Desired


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    new: int
    old: int
    """Numbers of revisions."""
    percent: float
    """Of the requests, for the new one."""


def sharing(desired: Desired) -> dict[str, Sharing]:
    """By service, of the canaries under way."""
    return {
        name: Sharing(
            new=rollout.revision, old=rollout.fallback.revision.number, percent=rollout.steps[rollout.step].percent
        )
        for name, target in desired.targets.items()
        if (rollout := target.rollout) is not None
        and rollout.state is RolloutState.CANARY
        and rollout.fallback is not None
    }


def compared_revisions(shared: Mapping[str, Sharing]) -> dict[str, Canary]:
    """What the mesh must know of it; it does not change with the share."""
    return {name: Canary(new=one.new, old=one.old) for name, one in shared.items()}


def weighed(endpoints: Sequence[Endpoint], sharing: Sharing | None) -> tuple[Endpoint, ...]:
    """With weights, so that the new revision's endpoints together get their share. Without a canary, or while only one
    of both has endpoints, all are alike."""
    if sharing is None:
        return tuple(endpoints)
    new = sum(endpoint.revision == sharing.new for endpoint in endpoints)
    old = len(endpoints) - new
    if not new or not old:
        return tuple(endpoints)
    of_new, of_old = weights(sharing.percent, new, old)
    return tuple(replace(one, weight=of_new if one.revision == sharing.new else of_old) for one in endpoints)
