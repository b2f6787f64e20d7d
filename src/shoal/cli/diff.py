"""`shoal diff`."""

from __future__ import annotations

from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import clean, emit, say
from shoal.cli.target import app_of
from shoal.model.status import RevisionDiff


@shoal_command(
    "diff",
    ("shoal diff web", "what a deploy would change: the app file and the working tree against what is wanted"),
    ("shoal diff web 3", "what has changed since revision 3"),
    ("shoal diff web 3 5", "what revision 5 has other than 3"),
)
@click.argument("service")
@click.argument("before", type=click.IntRange(min=1), required=False)
@click.argument("after", type=click.IntRange(min=1), required=False)
@file_option()
def command(service: str, before: int | None, after: int | None, file: Path | None, as_json: bool) -> None:
    """Tell which keys and which files of SERVICE differ between two revisions, or from the working tree.

    The names of variables are shown, never their values. It changes nothing.
    """
    if before is not None:
        found = connect(file).diff(service, before, after)
    else:
        from shoal.spec.wire import to_plain

        app = app_of(None, None, file, verb="diff")
        found = connect(Path(app.folder)).diff(service, app_document=to_plain(app))
    if as_json:
        emit(found)
    else:
        say(*view(found))


def view(found: RevisionDiff) -> list[str]:
    to = f"revision {found.after}" if found.after is not None else "the working tree"
    head = f"{found.service}: from revision {found.before} to {to}"
    files = [
        *(f"  + {path}" for path in found.added),
        *(f"  ~ {path}" for path in found.changed),
        *(f"  - {path}" for path in found.removed),
    ]
    lines = [*(f"  {change}" for change in found.changes), *files]
    return [head, *map(clean, lines)] if lines else [f"{head}: no difference"]
