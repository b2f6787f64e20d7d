"""`shoal restart`."""

from __future__ import annotations

from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import emit, say


@shoal_command("restart", ("shoal restart web", "a new process for each replica, one after the other"))
@click.argument("service")
@file_option()
def command(service: str, file: Path | None, as_json: bool) -> None:
    """Replace SERVICE's replicas, one by one: each new one is ready before an old one leaves.

    Returns at once; `shoal status` shows how far it is.
    """
    status = connect(file).restart(service)
    if as_json:
        emit(status)
    else:
        say(f"{status.name}: {status.reason}")
