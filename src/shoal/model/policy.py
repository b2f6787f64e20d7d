"""How the replicas of a service are replaced."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPolicy:
    """Kubernetes' terms, with defaults for one machine: nobody who asks may notice, with one replica either."""

    surge: int = 1
    """`maxSurge`: replicas beyond the wanted number while some are replaced; at least 1, unless `unavailable` is."""
    unavailable: int = 0
    """`maxUnavailable`: how many of the wanted number may be missing meanwhile."""
    min_healthy_s: float = 1.0
    """`minReadySeconds`: a new replica counts once it was ready for this long."""
    deadline_s: float = 120.0
    """`progressDeadlineSeconds`: a rollout has failed when no further replica got ready for this long."""
    rollback: bool = True
    """Whether a rollout that failed returns to the revision before. Otherwise its replicas are tried again and again,
    beside those older ones that still serve."""


DEFAULT_ROLLOUT = RolloutPolicy()
