"""A job and its runs, as people see them. Pure."""

from __future__ import annotations

from shoal.model.app import Service
from shoal.model.replica import ENDED, Replica, ReplicaState
from shoal.model.status import Health, JobRun, JobStatus
from shoal.model.world import Desired, Observed, Target
from shoal.planner.jobs import due_at


def job_status(target: Target, desired: Desired, observed: Observed, now: float, *, what: str) -> JobStatus:
    """`what`: what it runs, in words."""
    runs = [r for r in observed.of(target.service.name) if r.state is not ReplicaState.GONE]
    history = tuple(_run(r) for r in runs)
    due = None if desired.down else due_at(target, runs, desired, now)
    last = history[-1] if history else None
    return JobStatus(
        name=target.service.name,
        runs_what=what,
        schedule=target.service.job.schedule if target.service.job else "",
        state=last.state if last else "waiting",
        reason=last.reason if last else "has not run",
        next_at=None if due is None else max(due, now),
        history=history,
    )


def health(runs: list[Replica]) -> tuple[Health, str]:
    """For `explain`, which tells of a job as of a service."""
    if not runs:
        return Health.STOPPED, "a job that has not run"
    last = _run(runs[-1])
    words = {"running": Health.READY, "completed": Health.COMPLETED, "failed": Health.FAILING}
    return words[last.state], f"a job; its last run {last.state}: {last.reason or last.cause}"


def settings(service: Service) -> tuple[tuple[str, str], ...]:
    if service.job is None:
        return ()
    timeout = "none" if service.job.timeout_s is None else f"{service.job.timeout_s:g} s"
    return (("schedule", service.job.schedule or "none: shoal run"), ("timeout", timeout))


def _run(replica: Replica) -> JobRun:
    end = replica.last_exit if replica.state in ENDED else None
    return JobRun(
        id=replica.id,
        state=replica.state.value if replica.state in ENDED else "running",
        cause=replica.cause,
        started_at=replica.started_at or replica.since,
        ended_at=end.at if end else None,
        code=end.code if end else None,
        reason=end.reason if end else "",
        tail=end.tail if end else (),
    )
