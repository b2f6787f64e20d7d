"""`shoal doctor`."""

from __future__ import annotations

import click

from shoal.cli.options import shoal_command
from shoal.cli.output import clean, emit, paint, say
from shoal.errors import UnsupportedError

COLOURS = {"ok": "green", "degraded": "yellow", "failed": "red"}


@shoal_command(
    "doctor",
    ("shoal doctor", "what works here, what works less well, what is missing, each with the way out"),
    ("shoal doctor --json", "the same, as JSON"),
)
def command(as_json: bool) -> None:
    """See what this machine can do, by trying. Nothing is changed.

    Exit status 6 when something that Shoal cannot do without is missing.
    """
    from shoal.cli.machine import examine

    findings = examine()
    if as_json:
        emit(findings)
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            state = paint(finding.state.ljust(8), COLOURS[finding.state])
            say(f"{state}  {finding.name.ljust(width)}  {clean(finding.detail)}")
            if finding.way_out:
                say(f"{' ' * (width + 12)}-> {clean(finding.way_out)}")
    if any(finding.state == "failed" for finding in findings):
        raise click.exceptions.Exit(UnsupportedError.exit_code)
