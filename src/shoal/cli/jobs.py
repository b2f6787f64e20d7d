"""`shoal jobs`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import age, clean, emit, paint, say, table
from shoal.errors import NotFoundError
from shoal.model.status import AppStatus, JobRun, JobStatus

_COLOURS = {"completed": "green", "failed": "red", "running": "yellow"}


@shoal_command(
    "jobs",
    ("shoal jobs", "each job, how its last run ended, and when the next one is due"),
    ("shoal jobs backup", "its last 20 runs"),
)
@click.argument("job", required=False)
@file_option()
def command(job: str | None, file: Path | None, as_json: bool) -> None:
    """List the jobs, or the runs of JOB."""
    status = connect(file).status()
    found = find(status, job) if job is not None else None
    if as_json:
        emit(found if found is not None else status.jobs)
    else:
        now = time.time()
        say(*(jobs_table(status.jobs, now) if found is None else runs_view(found, now)))


def find(status: AppStatus, name: str) -> JobStatus:
    """Raises NotFoundError, with what there is."""
    for job in status.jobs:
        if job.name == name:
            return job
    there = ", ".join(job.name for job in status.jobs)
    raise NotFoundError(
        f"{status.app} has no job '{clean(name)}'", way_out=f"there are: {there}" if there else "add it: jobs: {...}"
    )


def jobs_table(jobs: tuple[JobStatus, ...], now: float) -> list[str]:
    if not jobs:
        return ["no jobs"]
    rows = [
        (job.name, job.schedule or "-", job.state, _last(job, now), _next(job, now), clean(job.reason)) for job in jobs
    ]
    return table(("JOB", "SCHEDULE", "STATE", "LAST", "NEXT", "REASON"), rows, colours=_COLOURS)


def runs_view(job: JobStatus, now: float) -> list[str]:
    """Its history, and the last lines of the last run that failed."""
    lines = [paint(f"{clean(job.runs_what)}, {job.schedule or 'only by shoal run'}", "dim")]
    if not job.history:
        return [*lines, "has not run"]
    rows = [
        (run.id, _stamp(run.started_at), took(run, now), run.state, clean(run.reason), run.cause) for run in job.history
    ]
    lines += table(("RUN", "STARTED", "TOOK", "STATE", "REASON", "CAUSE"), rows, colours=_COLOURS)
    failed = next((run for run in reversed(job.history) if run.state == "failed"), None)
    if failed is not None and failed.tail:
        lines += ["", f"{failed.id} ended with:", *(f"    {clean(line)}" for line in failed.tail)]
    return lines


def took(run: JobRun, now: float) -> str:
    seconds = max(0.0, (now if run.ended_at is None else run.ended_at) - run.started_at)
    return f"{seconds:.1f} s" if seconds < 60 else age(seconds)


def _last(job: JobStatus, now: float) -> str:
    return f"{age(now - job.history[-1].started_at)} ago" if job.history else "-"


def _next(job: JobStatus, now: float) -> str:
    return "-" if job.next_at is None else f"in {age(max(0.0, job.next_at - now))}"


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
