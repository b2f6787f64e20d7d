"""`shoal revisions`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import age, clean, emit, say, table
from shoal.model.status import RevisionList

COLUMNS = ("REVISION", "AGE", "RUNS", "ROLLOUT", "SOURCE", "CHANGED")
COLOURS = {"completed": "green", "failed": "red", "superseded": "dim", "rolling": "yellow", "preparing": "yellow"}


@shoal_command(
    "revisions",
    ("shoal revisions web", "each revision: when, what changed, how its rollout ended, who runs"),
    ("shoal revisions web --json", "the same, as JSON"),
)
@click.argument("service")
@file_option()
def command(service: str, file: Path | None, as_json: bool) -> None:
    """List the revisions of SERVICE, oldest first; the one that is wanted now has a `*`."""
    found = connect(file).revisions(service)
    if as_json:
        emit(found)
    else:
        say(*view(found, time.time()))


def view(found: RevisionList, now: float) -> list[str]:
    if not found.revisions:
        return [f"{found.service} has no revisions"]
    rows = [
        (
            f"{one.number}{' *' if one.wanted else ''}",
            age(now - one.created_at),
            str(one.replicas),
            one.state or "-",
            one.source[:12] or "working tree",
            clean("; ".join(one.changes)) or "-",
        )
        for one in found.revisions
    ]
    lines = table(COLUMNS, rows, colours=COLOURS)
    for one in found.revisions:
        if one.reason:
            lines += ["", f"revision {one.number} failed: {clean(one.reason)}"]
            lines += [f"    | {clean(line)}" for line in one.tail]
    return lines
