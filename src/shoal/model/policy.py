"""How the replicas of a service are replaced."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Strategy(StrEnum):
    ROLLING = "rolling"
    """New replicas take the place of old ones, one after the other."""
    CANARY = "canary"
    """First a few, with a share of the requests, judged against the old ones; the rest follows a good verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPolicy:
    """How a new revision is tried out."""

    percents: tuple[float, ...] = (10.0, 50.0)
    """Shares of the requests that go to the new revision, one step after the other; growing, each more than 0 and less
    than 100."""
    samples_min: int = 100
    """Requests that the new revision must have answered in a step before it passes; fewer: inconclusive."""
    wait_s: float = 30.0
    """How long a step lasts at least."""
    wait_s_max: float = 600.0
    """How long a step waits for its verdict; then the rollout stands until a person promotes or aborts it."""
    auto: bool = True
    """Whether a good verdict takes it to the next step; else a person does. A bad one always takes it back."""

    @property
    def flaw(self) -> str:
        """What is wrong with the shares; empty: nothing."""
        return "" if self.percents and are_shares(self.percents) else "these are no growing shares between 0 and 100"


def are_shares(percents: tuple[float, ...]) -> bool:
    """Whether they grow, between 0 and 100."""
    return all(0 < percent < 100 for percent in percents) and list(percents) == sorted(set(percents))


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
    strategy: Strategy = Strategy.ROLLING
    canary: CanaryPolicy = CanaryPolicy()
    """For the strategy of that name, and for who asks for one by hand."""


DEFAULT_ROLLOUT = RolloutPolicy()
