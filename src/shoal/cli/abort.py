"""`shoal abort`."""

from __future__ import annotations

from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.promote import tell


@shoal_command("abort", ("shoal abort web", "all requests go to the revision before; the canary's replicas leave"))
@click.argument("service")
@file_option()
def command(service: str, file: Path | None, as_json: bool) -> None:
    """Take SERVICE's canary back. Needs a canary: shoal deploy SERVICE --canary."""
    tell(connect(file).abort(service), as_json)
