"""`shoal scale`."""

from __future__ import annotations

from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import count, emit, say


@shoal_command(
    "scale",
    ("shoal scale web 3", "run three replicas of it"),
    ("shoal scale web 0", "stop it, and keep its place"),
)
@click.argument("service")
@click.argument("replicas", type=click.IntRange(min=0))
@file_option()
def command(service: str, replicas: int, file: Path | None, as_json: bool) -> None:
    """Set how many REPLICAS of SERVICE run, until the next `shoal up`. Returns at once; `shoal status` shows it."""
    status = connect(file).scale(service, replicas)
    if as_json:
        emit(status)
    else:
        say(f"{status.name}: {count(status.wanted, 'replica')} wanted, {status.ready} ready now")
