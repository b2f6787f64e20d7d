"""`shoal plan`."""

from __future__ import annotations

from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import clean, emit, paint, say, table
from shoal.cli.target import app_of
from shoal.client.plane import plane_runs
from shoal.model.app import App
from shoal.model.status import ChangeKind, DryRun
from shoal.paths import StateFolder

COLOURS = {"new": "green", "changed": "yellow", "removed": "red", "unchanged": "dim"}


@shoal_command(
    "plan",
    ("shoal plan", "what `shoal up` would change, and why"),
    ("shoal plan --json", "the same, for machines"),
)
@click.argument("target", required=False, metavar="[MODULE:ATTRIBUTE]")
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="PORT", help="With MODULE:ATTRIBUTE: its port. Default: 8080."
)
@file_option()
def command(target: str | None, port: int | None, file: Path | None, as_json: bool) -> None:
    """Tell what `shoal up` would change against what runs: each service, which key, and what would be done first.

    It starts nothing and changes nothing; the code is compared as the app file is.
    """
    app = app_of(target, port, file, verb="plan")
    state = StateFolder.beside(Path(app.folder))
    running = plane_runs(state)
    found = _ask(Path(app.folder), app) if running else _of_nothing(app)
    if as_json:
        emit(found)
    else:
        say(*view(found, running=running))


def _ask(folder: Path, app: App) -> DryRun:
    from shoal.spec.wire import to_plain

    return connect(folder).plan(to_plain(app))


def _of_nothing(app: App) -> DryRun:
    """Without a plane everything is new."""
    from shoal.control.dryrun import dry_run
    from shoal.model.world import Observed

    return dry_run(app, None, {}, Observed(), 0.0)


def view(found: DryRun, *, running: bool) -> list[str]:
    rows = [
        (change.service, change.change.value, clean("; ".join(change.reasons)) or _why(change.change, running))
        for change in found.changes
    ]
    if found.gateway is not None:
        rows.append(("the gateway", found.gateway.value, ""))
    lines = [f"{found.app}: " + ("against what runs" if running else "nothing runs yet")]
    lines += ["", *table(("SERVICE", "CHANGE", "WHY"), rows, colours=COLOURS), ""]
    if not found.decisions:
        return [*lines, "shoal up would do nothing" if running else "shoal up would start nothing"]
    lines.append("shoal up would, at first:")
    lines += [f"  {clean(decision)}" for decision in found.decisions]
    return lines + [paint(f"  then wait for {clean(wait)}", "dim") for wait in found.waits]


def _why(change: ChangeKind, running: bool) -> str:
    match change:
        case ChangeKind.NEW:
            return "does not run" if running else ""
        case ChangeKind.REMOVED:
            return "is not in the app file"
        case ChangeKind.CHANGED | ChangeKind.UNCHANGED:
            return ""
