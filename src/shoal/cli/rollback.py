"""`shoal rollback`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shoal.cli.deploy import tell_rolled
from shoal.cli.options import connect, file_option, shoal_command, state_folder
from shoal.cli.output import emit, say
from shoal.cli.waiting import Waiting, waiting_options
from shoal.errors import MigratedError
from shoal.model.status import ServiceStatus

if TYPE_CHECKING:
    from shoal.client.http import Client


@shoal_command(
    "rollback",
    ("shoal rollback web", "to the last revision that was completely rolled out before"),
    ("shoal rollback web --to 3", "to this one"),
)
@click.argument("service")
@click.option("--to", type=click.IntRange(min=1), metavar="REVISION", help="Which one; see `shoal revisions`.")
@click.option("-y", "--yes", is_flag=True, help="Also where migrations have changed the schema since.")
@waiting_options()
@file_option()
def command(
    service: str, to: int | None, yes: bool, detach: bool, timeout: float, file: Path | None, as_json: bool
) -> None:
    """Return SERVICE to an older revision: its code and its spec, by a rollout like any other.

    The app file stays as it is: the next `shoal deploy` or `shoal up` rolls out what it says.
    """
    started_at = time.monotonic()
    client = connect(file)
    status = _rolled_back(client, service, to, yes=yes)
    if not detach:
        waiting = Waiting(client, state_folder(file), timeout, started_at, quiet=as_json)
        tell_rolled(waiting, service, started_at, as_json=as_json)
    elif as_json:
        emit(status)
    else:
        say(f"{status.name}: {status.reason}")


def _rolled_back(client: Client, service: str, to: int | None, *, yes: bool) -> ServiceStatus:
    """Asks where the schema has changed since. MigratedError: nobody is there to be asked, or they said no."""
    try:
        return client.rollback(service, to, migrated=yes)
    except MigratedError as error:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        click.echo(str(error), err=True)
        if not click.confirm("Can the older code live with that schema?", default=False, err=True):
            raise
        return client.rollback(service, to, migrated=True)
