"""`shoal events`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import emit_line, say
from shoal.cli.views import entry_line

if TYPE_CHECKING:
    from shoal.client.http import Client
    from shoal.ports import JournalEntry

RECENT = -50
PAGE = 1000


@shoal_command(
    "events",
    ("shoal events", "the last 50 entries"),
    ("shoal events -f", "and what happens now, until Ctrl-C"),
    ("shoal events --service web", "about one service and its replicas"),
    ("shoal events --after 0 --json", "the whole history, one JSON object a line"),
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens.")
@click.option(
    "--after", type=int, default=RECENT, metavar="N", help="Entries after number N; -N: the last N. Default: -50."
)
@click.option("-s", "--service", help="Only about this service and its replicas (also: app, proxy, daemon, keeper).")
@file_option("--file")
def command(follow: bool, after: int, service: str | None, file: Path | None, as_json: bool) -> None:
    """Show what happened: deploys, starts, exits with their codes, refused calls."""
    client = connect(file)
    for entry in client.events(after, subject=service, follow=True) if follow else _all(client, after, service):
        if as_json:
            emit_line(entry)
        else:
            say(entry_line(entry))


def _all(client: Client, after: int, service: str | None) -> Iterator[JournalEntry]:
    """Page by page."""
    while True:
        page = list(client.events(after, subject=service, limit=PAGE))
        yield from page
        if len(page) < PAGE or after < 0:
            return
        after = page[-1].sequence
