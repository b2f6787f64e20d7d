"""`shoal run`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click

from shoal.cli.jobs import find, took
from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import clean, emit, note, say
from shoal.errors import NotFoundError
from shoal.model.status import JobRun

_POLL_S = 0.2
_LINES_MAX = 100_000


@shoal_command(
    "run",
    ("shoal run backup", "shows what it printed, once it has ended"),
    ("shoal run backup -d", "returns at once; shoal jobs backup shows how it went"),
)
@click.argument("job")
@click.option("-d", "--detach", is_flag=True, help="Do not wait for its end.")
@file_option()
def command(job: str, detach: bool, file: Path | None, as_json: bool) -> int:
    """Run JOB now, beside its schedule, and wait for its end. Refused while a run of it is under way.

    Ends with 0 when the run does, else with 1. Ctrl-C ends the waiting, not the run.
    """
    client = connect(file)
    find(client.status(), job)
    run = client.run_job(job).history[-1]
    if not detach:
        run = _ended(lambda: next((r for r in find(client.status(), job).history if r.id == run.id), None))
        if not as_json:
            for line in client.logs(job, replica=run.id, tail=_LINES_MAX):
                say(clean(line.text))
    if as_json:
        emit(run)
    elif detach:
        say(f"{run.id} runs: shoal jobs {job}")
    else:
        note(f"{run.id} {run.state} after {took(run, time.time())}: {clean(run.reason)}")
    return 1 if run.state == "failed" else 0


def _ended(look: Callable[[], JobRun | None]) -> JobRun:
    """Once it has. NotFoundError: it is gone from the history, because the app went down or others followed."""
    while True:
        run = look()
        if run is None:
            raise NotFoundError(
                "the run is not in the job's history any more", way_out="shoal events tells what happened"
            )
        if run.state != "running":
            return run
        time.sleep(_POLL_S)
