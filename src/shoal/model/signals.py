"""What the data plane counted of the requests to a revision of a service."""

from __future__ import annotations

from dataclasses import dataclass

_STEPS = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)
"""Ten to a decade, each a quarter greater than the one before: the preferred numbers R'10 of ISO 3."""

LATENCY_BOUNDS_MS = tuple(
    round(step * decade, 3)
    for decade in (0.1, 1, 10, 100, 1000, 10000)
    for step in _STEPS
    if 0.5 <= step * decade <= 32000
)
"""Upper bounds of the latency buckets, 0.5 ms to 32 s; one more bucket holds all that took longer."""
NO_LATENCIES = (0,) * (len(LATENCY_BOUNDS_MS) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Counters of the attempts to have requests answered by the replicas of one revision: of a request that was tried
    three times there are three. They only grow, but for a restart of Envoy together with the daemon, after which they
    begin at 0 again."""

    service: str
    revision: int
    requests: int = 0
    """Those that a caller gave up are not among them."""
    errors: int = 0
    """Answers of 500 and above, requests without an answer, gRPC's UNAVAILABLE, INTERNAL, UNKNOWN, DATA_LOSS."""
    latency: tuple[int, ...] = NO_LATENCIES
    """Answers by the time from the request's last byte to the answer's first: count per bucket of `LATENCY_BOUNDS_MS`,
    not cumulative. Requests without an answer are in none."""


def since(now: Traffic, start: Traffic | None) -> Traffic:
    """What was counted after `start`. A counter that is lower than it was then began anew: all of it is after."""
    if start is None or start.requests > now.requests or start.errors > now.errors:
        return now
    latency = tuple(a - b for a, b in zip(now.latency, start.latency, strict=False))
    if len(start.latency) != len(now.latency) or any(count < 0 for count in latency):
        latency = now.latency
    return Traffic(
        service=now.service,
        revision=now.revision,
        requests=now.requests - start.requests,
        errors=now.errors - start.errors,
        latency=latency,
    )
