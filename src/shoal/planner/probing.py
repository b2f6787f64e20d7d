"""What the answers to probes count for: streaks, thresholds, and the one who must go. Pure.

Readiness decides who gets requests, and nothing else. Liveness and startup decide who is restarted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from shoal.model.event import ProbeFailed, ProbeSucceeded
from shoal.model.health import HealthCheck, Pace, Probe
from shoal.model.replica import Replica, ReplicaState, Trigger
from shoal.planner.defaults import (
    COMMAND_S,
    FAILURES_TO_UNREADY,
    LATE_S,
    LIVENESS_S,
    PROBE_S,
    STARTUP_FAILURES,
)

Judged = tuple[Replica, Trigger | None]
"""The replica with its new counts, and what moves it; None: nothing."""


def pace(check: HealthCheck, probe: Probe) -> Pace:
    """How often, how long and how many times, with the defaults of this probe."""
    base_s = LIVENESS_S if probe is Probe.LIVENESS else PROBE_S
    base_s = max(base_s, COMMAND_S) if check.command else base_s
    failures = STARTUP_FAILURES if probe is Probe.STARTUP else FAILURES_TO_UNREADY
    interval_s = base_s if check.interval_s is None else check.interval_s
    if probe is Probe.STARTUP and check.failures is None:
        failures = max(FAILURES_TO_UNREADY, round(STARTUP_FAILURES * PROBE_S / interval_s))
    return Pace(
        interval_s=interval_s,
        timeout_s=base_s if check.timeout_s is None else check.timeout_s,
        failures=failures if check.failures is None else check.failures,
        successes=1 if check.successes is None else check.successes,
        delay_s=check.delay_s or 0.0,
        written=check.interval_s is not None,
    )


def succeeded(replica: Replica, event: ProbeSucceeded) -> Judged:
    match event.probe:
        case Probe.STARTUP:
            return replace(replica, startup_failures=0), None
        case Probe.LIVENESS:
            return replace(replica, liveness_failures=0), None
        case Probe.READINESS:
            successes = replica.successes + 1
            seen = replace(replica, successes=successes, failures=0, probe_detail="")
            return seen, Trigger.BECAME_READY if successes >= event.of else None
        case _:
            assert_never(event.probe)


def failed(replica: Replica, event: ProbeFailed) -> Judged:
    replica = replace(replica, late=_is_late(replica, event.at))
    match event.probe:
        case Probe.STARTUP:
            count = replica.startup_failures + 1
            seen = replace(replica, startup_failures=count, probe_detail=event.detail)
            if count >= event.of:
                return _condemned(seen, event)
            # It had started before, or it would not be ready: whoever came back asks it again from the beginning.
            return _unready(seen, FAILURES_TO_UNREADY) if seen.state is not ReplicaState.STARTING else (seen, None)
        case Probe.LIVENESS:
            if replica.state is ReplicaState.STARTING and not event.early:
                return replica, None
            count = replica.liveness_failures + 1
            seen = replace(replica, liveness_failures=count)
            return _condemned(seen, event) if count >= event.of else (seen, None)
        case Probe.READINESS:
            return _unready(replace(replica, probe_detail=event.detail), event.of)
        case _:
            assert_never(event.probe)


def _unready(replica: Replica, of: int) -> Judged:
    seen = replace(replica, failures=replica.failures + 1, successes=0)
    return seen, Trigger.BECAME_UNREADY if seen.failures >= of else None


def _condemned(replica: Replica, event: ProbeFailed) -> Judged:
    asked = f" ({event.asked})" if event.asked else ""
    times = f" {event.of} times in a row" if event.of > 1 else ""
    return replace(replica, doomed=f"{event.probe} probe{asked} failed{times}: {event.detail}"), Trigger.CONDEMNED


def _is_late(replica: Replica, at: float) -> bool:
    if replica.late or replica.state is not ReplicaState.STARTING or replica.running_since is None:
        return replica.late
    return at - replica.running_since >= LATE_S
