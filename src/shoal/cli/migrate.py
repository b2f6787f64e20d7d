"""`shoal migrate`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import age, clean, emit, emit_line, say, table
from shoal.errors import UsageError
from shoal.model.migration import MigrationList

COLUMNS = ("SERVICE", "REVISION", "AGE", "TOOK", "OUTCOME", "COMMAND")
COLOURS = {"succeeded": "green", "failed": "red"}


@shoal_command(
    "migrate",
    ("shoal migrate status", "each migration of each service: when, how long, how it ended"),
    ("shoal migrate status cart", "of one service"),
)
@click.argument("what", type=click.Choice(["status"]))
@click.argument("service", required=False)
@file_option()
def command(what: str, service: str | None, file: Path | None, as_json: bool) -> None:
    """Show the migrations that have run. `migrate:` in the app file says what runs: once for each revision, before its
    first replica."""
    client = connect(file)
    names = [service] if service is not None else [one.name for one in client.status().services]
    found = [client.migrations(name) for name in names]
    if service is None:
        found = [one for one in found if one.command or one.runs]
    elif not found[0].command and not found[0].runs:
        raise UsageError(f"{service} has no migrations", way_out="add one to it: migrate: alembic upgrade head")
    if as_json:
        if service is not None:
            emit(found[0])
        else:
            for one in found:
                emit_line(one)
    else:
        say(*view(found, time.time()))


def view(found: list[MigrationList], now: float) -> list[str]:
    runs = [(one.service, run) for one in found for run in one.runs]
    if not runs:
        return ["no service has a migration: add one: migrate: alembic upgrade head"]
    rows = [
        (
            name,
            str(run.revision),
            age(now - run.ended_at),
            f"{run.ended_at - run.started_at:.1f} s",
            run.outcome,
            clean(run.command),
        )
        for name, run in runs
    ]
    lines = table(COLUMNS, rows, colours=COLOURS)
    for name, run in runs:
        if run.reason:
            lines += ["", f"revision {run.revision} of {name}: {clean(run.reason)}; see shoal logs {name} --migrate"]
    return lines
