"""`shoal promote`."""

from __future__ import annotations

from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import emit, say
from shoal.model.status import ServiceStatus


@shoal_command("promote", ("shoal promote web", "the canary's next step; after the last one, all replicas"))
@click.argument("service")
@file_option()
def command(service: str, file: Path | None, as_json: bool) -> None:
    """Take SERVICE's canary on without waiting for its verdict. Needs a canary: shoal deploy SERVICE --canary."""
    tell(connect(file).promote(service), as_json)


def tell(status: ServiceStatus, as_json: bool) -> None:
    if as_json:
        emit(status)
    else:
        say(f"{status.name}: {status.rollout.step if status.rollout is not None else status.reason}")
