"""`shoal logs`."""

from __future__ import annotations

from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import clean, emit_line, paint, say
from shoal.errors import UsageError


@shoal_command(
    "logs",
    ("shoal logs web", "the last 100 lines of all its replicas"),
    ("shoal logs web -f", "and what comes, until Ctrl-C"),
    ("shoal logs web --replica r2 --tail 20", "of one replica"),
    ("shoal logs web --build", "of its build steps; --replica build-3: that of revision 3"),
    ("shoal logs envoy", "of Shoal's own: envoy, daemon, keeper"),
)
@click.argument("service")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option(
    "-n",
    "--tail",
    type=click.IntRange(0, 100_000),
    metavar="N",
    default=100,
    show_default=True,
    help="Start so many lines back.",
)
@click.option("-r", "--replica", help="Only this one: its id, or its number as r2.")
@click.option("--build", is_flag=True, help="What its build steps printed.")
@click.option("--migrate", is_flag=True, help="What its migrations printed.")
@click.option("-t", "--times", is_flag=True, help="Put the time (UTC) before each line.")
@file_option("--file")
def command(
    service: str,
    follow: bool,
    tail: int,
    replica: str | None,
    build: bool,
    migrate: bool,
    times: bool,
    file: Path | None,
    as_json: bool,
) -> None:
    """Show what SERVICE printed. With --json: one JSON object a line.

    Terminal sequences are removed and control characters made visible.
    """
    steps = [step for step, asked in (("build", build), ("migrate", migrate)) if asked]
    if steps:
        if replica is not None or len(steps) > 1:
            raise UsageError("a step is no replica's", way_out="use one of --replica, --build and --migrate")
        replica = steps[0]
    elif replica is not None and not replica.startswith((f"{service}-", "build-", "migrate-")):
        replica = f"{service}-r{replica.removeprefix('r')}"
    for line in connect(file).logs(service, replica=replica, tail=tail, follow=follow):
        if as_json:
            emit_line(line)
        else:
            stamp = paint(f"{line.at} ", "dim") if times else ""
            say(f"{stamp}{paint(line.replica + ' |', 'dim')} {clean(line.text)}")
