"""`shoal restart`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from shoal.cli.deploy import tell_rolled
from shoal.cli.options import connect, file_option, shoal_command, state_folder
from shoal.cli.output import emit, say
from shoal.cli.waiting import Waiting, waiting_options


@shoal_command(
    "restart",
    ("shoal restart web", "a new process for each replica, one after the other"),
    ("shoal restart web --detach", "returns at once; shoal status shows how far it is"),
)
@click.argument("service")
@waiting_options()
@file_option()
def command(service: str, detach: bool, timeout: float, file: Path | None, as_json: bool) -> None:
    """Replace SERVICE's replicas by new ones of the same revision: each is ready before an old one leaves.

    It is a rollout like any other: new replicas that crash, or do not get ready, are taken back; the exit status is 5
    then.
    """
    started_at = time.monotonic()
    client = connect(file)
    status = client.restart(service)
    if not detach and status.rollout is not None and status.rollout.under_way:
        waiting = Waiting(client, state_folder(file), timeout, started_at, quiet=as_json)
        tell_rolled(waiting, service, started_at, as_json=as_json)
    elif as_json:
        emit(status)
    else:
        say(f"{status.name}: {status.reason}")
