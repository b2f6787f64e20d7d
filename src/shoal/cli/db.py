"""`shoal db`."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import count, emit, say
from shoal.errors import ConflictError, UsageError

if TYPE_CHECKING:
    from shoal.cli.dumps import Found
    from shoal.client.http import Client


@shoal_command(
    "db",
    ("shoal db dump cart-service", "to a file that is named by the service and the time"),
    ("shoal db dump cart-service -o cart.dump", "to this one, which is replaced once the dump is whole"),
    ("shoal db restore cart-service cart.dump", "all of it, or nothing has changed"),
    ("shoal db shell cart-service", "psql, or sqlite3, as that service"),
)
@click.argument("what", type=click.Choice(["dump", "restore", "shell"]))
@click.argument("service")
@click.argument("dumped", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Where the dump goes. Default: here."
)
@click.option("-y", "--yes", is_flag=True, help="Restore also while replicas of the service run.")
@file_option()
def command(
    what: str,
    service: str,
    dumped: Path | None,
    output: Path | None,
    yes: bool,
    file: Path | None,
    as_json: bool,
) -> None:
    """Dump the database of SERVICE to a file, restore it from FILE, or open a shell in it.

    For `database: postgres` (also one that is `external`) and `database: sqlite`. The app is up meanwhile.
    """
    if (what == "restore") != (dumped is not None):
        words = "which dump?" if what == "restore" else f"{what} takes no second name"
        line = {"restore": f"restore {service} FILE", "dump": f"dump {service} -o FILE", "shell": f"shell {service}"}
        raise UsageError(words, way_out=f"shoal db {line[what]}")
    if output is not None and what != "dump":
        raise UsageError("-o is for dump", way_out=f"shoal db dump {service} -o {output}")
    if as_json and what == "shell":
        raise UsageError("a shell has no JSON", way_out=f"shoal db shell {service}")

    from shoal.cli import dumps
    from shoal.cli.execute import become
    from shoal.engines.local.confidential import read_once

    client = connect(file)
    context = client.exec_context(service)
    context = replace(context, env=context.env | read_once(context.kept_back), kept_back=None)
    found = dumps.found_of(service, context)
    if what == "shell":
        become(*dumps.shell(found))
    if dumped is not None:
        dumps.check(found, dumped)
        runs = _ask(client, found, yes=yes)
        dumps.restore(found, dumped)
        if as_json:
            emit({"service": service, "kind": found.keeping, "file": str(dumped.absolute()), "replicas": runs})
        else:
            say(f"the database of {service} is restored from {dumped}")
    else:
        target = output or Path(
            f"{service}-{time.strftime('%Y%m%d-%H%M%S')}.{'sqlite3' if found.file.name else 'dump'}"
        )
        size = dumps.dump(found, target)
        if as_json:
            emit({"service": service, "kind": found.keeping, "file": str(target.absolute()), "bytes": size})
        else:
            say(f"the database of {service} is in {target}, {count(size, 'byte')}")


def _ask(client: Client, found: Found, *, yes: bool) -> int:
    """How many replicas run. ConflictError: some do, and nobody says that it may be restored nevertheless."""
    runs = sum(len(one.replicas) for one in client.status().services if one.name == found.service)
    if not runs or yes:
        return runs
    words = f"{count(runs, 'replica')} of {found.service} would see the data change below them"
    service = found.service
    refusal = ConflictError(words, way_out=f"end them first: shoal scale {service} 0; or, if they can bear it, --yes")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise refusal
    click.echo(words, err=True)
    if not click.confirm("Restore it all the same?", default=False, err=True):
        raise refusal
    return runs
