"""Jobs: when the next run starts, what ends one that takes too long, and how many are remembered.

A run is a replica with `restart: never`; one that has ended stays, as the job's history.
"""

from __future__ import annotations

from collections.abc import Iterator

from shoal.model import action as act
from shoal.model import cron
from shoal.model.replica import ENDED, Replica
from shoal.model.world import Desired, Observed, Target
from shoal.planner.healing import words
from shoal.planner.steps import Step, Wait, first_start

KEPT_RUNS = 20
MISSED_S_MAX = 3600.0
"""A run that was due while Shoal was away, or the one before still ran, is made up for this long; once, however many
were missed."""


def due_at(target: Target, runs: list[Replica], desired: Desired, now: float) -> float | None:
    """When the next run is due, which may be past; None: only when somebody asks."""
    job = target.service.job
    if job is None or not job.schedule:
        return None
    last = max((r.started_at or 0.0 for r in runs), default=0.0)
    return cron.next_after(cron.parse(job.schedule), max(last, desired.at, now - MISSED_S_MAX))


def under_way(runs: list[Replica]) -> list[Replica]:
    """Also those on their way out: there are never two at once."""
    return [r for r in runs if r.state not in ENDED]


def start(target: Target, observed: Observed, reason: str) -> act.StartReplica:
    return first_start(target, observed.next_number.get(target.service.name, 1), reason)


def keep(target: Target, runs: list[Replica], desired: Desired, observed: Observed, now: float) -> Iterator[Step]:
    """`runs`: all of the job, by number."""
    ended = [r for r in runs if r.state in ENDED]
    for old in ended[: max(0, len(ended) - KEPT_RUNS)]:
        yield act.DrainReplica(replica=old.id, reason=f"the last {KEPT_RUNS} runs are kept")
    running = under_way(runs)
    for run in running:
        if not run.leaving:
            yield from _ended_in_time(run, target, now)
    due = due_at(target, runs, desired, now)
    if due is None:
        return
    if now < due:
        yield Wait(subject=target.service.name, reason="the next run is due", until=due)
    elif not running:
        schedule = target.service.job.schedule if target.service.job else ""
        yield start(target, observed, f"due by its schedule {schedule}")


def _ended_in_time(run: Replica, target: Target, now: float) -> Iterator[Step]:
    limit_s = target.service.job.timeout_s if target.service.job else None
    if run.told_at is not None:
        grace_s = target.service.draining.grace_s
        kill_at = run.told_at + grace_s
        if now < kill_at:
            yield Wait(subject=run.id, reason=f"was told to end: {run.told}", until=kill_at)
        else:
            yield act.KillReplica(replica=run.id, reason=f"did not end within {words(grace_s)} of {run.stop_signal}")
    elif limit_s is not None:
        end_at = (run.started_at or run.since) + limit_s
        if now < end_at:
            yield Wait(subject=run.id, reason="runs; its timeout ends it", until=end_at)
        else:
            yield act.StopReplica(replica=run.id, reason=f"took longer than its timeout of {words(limit_s)}")
