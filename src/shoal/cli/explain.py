"""`shoal explain`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import emit, say
from shoal.cli.views import explanation_view


@shoal_command(
    "explain",
    ("shoal explain web", "its replicas and why each is so, what happens next, whom it calls, each setting"),
    ("shoal explain web --json", "the same, as JSON"),
)
@click.argument("service")
@file_option()
def command(service: str, file: Path | None, as_json: bool) -> None:
    """Tell why SERVICE is as it is, and what will be done about it."""
    explanation = connect(file).explain(service)
    if as_json:
        emit(explanation)
    else:
        say(*explanation_view(explanation, time.time()))
