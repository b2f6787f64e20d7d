"""Writes `docs/reference/cli.md` from the commands: `python -m shoal.cli.reference > docs/reference/cli.md`."""

from __future__ import annotations

import inspect
import sys

import click

from shoal.cli import main as entry
from shoal.cli.options import ShoalCommand

HEAD = """# The command line

This page is written from the code (`shoal.cli`). `shoal COMMAND --help` tells the same.

- Every command has `--json`. A result is one JSON document; what comes piece by piece (`logs`, `events`,
  `status --watch`, `up` in the foreground) is one JSON object a line.
- Results go to stdout, errors and notes to stderr. Colour goes to terminals only, and not where `NO_COLOR` is set.
- A command means the app of the nearest `shoal.yaml`, upwards from where it runs, or the one that `--file` names.

"""


def markdown() -> str:
    """The whole page."""
    parts = [HEAD, "## Exit status and errors\n\n"]
    parts.append((entry.__doc__ or "").partition("\n\n")[2].rstrip() + "\n")
    context = click.Context(entry.cli, info_name="shoal")
    for name in entry.COMMANDS:
        command = entry.cli.get_command(context, name)
        assert isinstance(command, ShoalCommand)
        parts.append(_section(name, command))
    return "".join(parts)


def _section(name: str, command: ShoalCommand) -> str:
    context = click.Context(command, info_name=f"shoal {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"\n## `shoal {name}`\n", f"\n    shoal {name} {usage}\n", f"\n{inspect.cleandoc(command.help or '')}\n"]
    lines.append("\n| option | what it does |\n|---|---|\n")
    for option in command.params:
        record = option.get_help_record(context)
        if record is not None and isinstance(option, click.Option):
            lines.append(f"| `{record[0]}` | {record[1].replace('|', '&#124;')} |\n")
    lines.append("\n")
    lines += [f"- `{line}`: {what}\n" for line, what in command.examples]
    return "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(markdown())
