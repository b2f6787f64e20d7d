"""What the data plane counted of the requests to a revision of a service."""

from __future__ import annotations

from dataclasses import dataclass

LATENCY_BOUNDS_MS = (
    1,
    2,
    5,
    10,
    20,
    35,
    50,
    75,
    100,
    150,
    200,
    300,
    500,
    750,
    1000,
    1500,
    2000,
    3000,
    5000,
    10000,
    30000,
)
"""Upper bounds of the latency buckets; one more bucket holds all that took longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Counters of requests that replicas of one revision answered, or were sent and failed. They only grow, but for a
    restart of Envoy, after which they begin at 0 again."""

    service: str
    revision: int
    requests: int = 0
    errors: int = 0
    """Answers of 500 and above, requests without an answer, gRPC's UNAVAILABLE, INTERNAL, UNKNOWN, DATA_LOSS."""
    latency: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS_MS) + 1)
    """Requests by the time to their last byte: count per bucket of `LATENCY_BOUNDS_MS`, not cumulative."""
