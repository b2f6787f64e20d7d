"""`shoal status`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import emit, emit_line, is_terminal, say
from shoal.cli.views import app_view

WATCH_S = 0.5


@shoal_command(
    "status",
    ("shoal status", "how the app and each service are"),
    ("shoal status --watch", "the same, kept up to date until Ctrl-C"),
    ("shoal status --json", "everything that is known, as JSON"),
)
@click.option("-w", "--watch", is_flag=True, help="Keep it up to date; through a pipe, print it when it changes.")
@file_option()
def command(watch: bool, file: Path | None, as_json: bool) -> None:
    """Show how each service is, and where it is reached.

    The states: ready, degraded (fewer replicas ready than wanted), starting, waiting (for `after:`), failing (ends
    again and again), stopping, stopped.
    """
    client = connect(file)
    if not watch:
        status = client.status()
        if as_json:
            emit(status)
        else:
            say(*app_view(status))
        return
    if is_terminal() and not as_json:
        from shoal.cli.live import watch_lines

        watch_lines(lambda: app_view(client.status()), every_s=WATCH_S)
    shown: object = None
    while True:
        status = client.status()
        now = status if as_json else app_view(status)
        if now != shown:
            if as_json:
                emit_line(status)
            else:
                say(*app_view(status), "")
        shown = now
        time.sleep(WATCH_S)
