"""`shoal rollback`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from shoal.cli.deploy import tell_rolled
from shoal.cli.options import connect, file_option, shoal_command, state_folder
from shoal.cli.output import emit, say
from shoal.cli.waiting import Waiting, waiting_options


@shoal_command(
    "rollback",
    ("shoal rollback web", "to the last revision that was completely rolled out before"),
    ("shoal rollback web --to 3", "to this one"),
)
@click.argument("service")
@click.option("--to", type=click.IntRange(min=1), metavar="REVISION", help="Which one; see `shoal revisions`.")
@waiting_options()
@file_option()
def command(service: str, to: int | None, detach: bool, timeout: float, file: Path | None, as_json: bool) -> None:
    """Return SERVICE to an older revision: its code and its spec, by a rollout like any other.

    The app file stays as it is: the next `shoal deploy` or `shoal up` rolls out what it says.
    """
    started_at = time.monotonic()
    client = connect(file)
    status = client.rollback(service, to)
    if not detach:
        waiting = Waiting(client, state_folder(file), timeout, started_at, quiet=as_json)
        tell_rolled(waiting, service, started_at, as_json=as_json)
    elif as_json:
        emit(status)
    else:
        say(f"{status.name}: {status.reason}")
