"""What the simulation knows of requests: how long those of a replica that drains go on, and when it may be stopped."""

from __future__ import annotations

import random

from shoal.model.replica import ReplicaState
from shoal.model.world import Desired, Observed
from shoal.planner.leaving import down_by, draining_of
from shoal.ports import Clock

FOR_EVER_S = 10_000.0
"""A WebSocket."""


class Requests:
    def __init__(self, rng: random.Random, clock: Clock) -> None:
        self._rng = rng
        self._clock = clock
        self._ends: dict[str, float] = {}

    def under_way(self, replica: str) -> int:
        if replica not in self._ends:
            lasts_s = self._rng.choice([0.0, 0.0, 0.4, 3.0, 20.0, FOR_EVER_S])
            self._ends[replica] = self._clock.now() + lasts_s
        return 3 if self._clock.now() < self._ends[replica] else 0


def broken(requests: Requests, desired: Desired | None, observed: Observed, replica: str) -> str:
    """SIGTERM is about to be sent to it: whether that is too early for what it has under way; empty: it is not."""
    known = observed.replicas.get(replica)
    # It is STOPPING by now: asked of when it was drained, of which its requests were told.
    if known is None or desired is None or desired.hurry or known.state is not ReplicaState.STOPPING:
        return ""
    if known.out_at is None or replica not in requests._ends or requests.under_way(replica) == 0:
        return ""
    if desired.at >= known.since:
        return ""  # it was decided by what was wanted before, which may have given it less time
    until = known.out_at + draining_of(known, desired).drain_s
    if desired.down:
        until = min(until, down_by(desired))
    left = until - requests._clock.now()
    return f"{replica} is told to stop with requests under way and {left:.1f} s left" if left > 0.001 else ""
