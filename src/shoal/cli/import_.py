"""`shoal import`."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shoal.cli.options import shoal_command
from shoal.cli.output import clean, count, emit, plain, say, table
from shoal.spec.find import FILE_NAME

if TYPE_CHECKING:
    from shoal.spec.importing import Imported


@shoal_command(
    "import",
    ("shoal import compose.yaml", "write shoal.yaml beside it"),
    ("shoal import Procfile -o deploy/shoal.yaml", "a Procfile, with the .env beside it"),
    ("shoal import --service web --json", "only web and what it depends on; the report as JSON"),
)
@click.argument("source", metavar="[FILE]", default=".", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help=f"The app file to write. Default: {FILE_NAME} beside FILE."
)
@click.option(
    "--service", "services", multiple=True, help="Only this service, and what it depends on. Can be repeated."
)
@click.option(
    "--profile", "profiles", multiple=True, help="Also the services of this profile; * means all. Can be repeated."
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def command(
    source: Path, output: Path | None, services: tuple[str, ...], profiles: tuple[str, ...], force: bool, as_json: bool
) -> None:
    """Write an app file from a compose file or a Procfile (default: the one in this folder), and tell what was not
    carried over and why.

    Nothing is built, started or imported; only files beside FILE and below are read, and the env files that it names.
    """
    from shoal.spec.importing import find, import_file
    from shoal.spec.importing.writing import write

    source = find(source)
    target = source.parent / FILE_NAME if output is None else output / FILE_NAME if output.is_dir() else output
    result = import_file(source, target.parent, platform.node(), services=services, profiles=profiles)
    write(target, result.text, force=force)
    if as_json:
        emit({"file": str(target), **_report(result)})
    else:
        say(*lines(result), "", f"wrote {clean(str(target))}; look at it, then: shoal up")


def _report(result: Imported) -> dict[str, object]:
    return {
        "kind": result.kind,
        "source": result.source,
        "services": plain(result.rows),
        "not_carried_over": plain(result.lost),
        "needs": plain(result.needed),
        "not_needed": list(result.unneeded),
    }


def lines(result: Imported) -> list[str]:
    """The report for people: what each service becomes, what to set, what was not carried over."""
    cells = [
        (row.service if i == 0 else "", row.becomes if i == 0 else "", clean(note))
        for row in result.rows
        for i, note in enumerate(row.notes or ("",))
    ]
    out = table(("SERVICE", "BECOMES", "NOTES"), [(clean(a), clean(b), c) for a, b, c in cells])
    if result.needed:
        out += ["", "set before shoal up"]
        for one in result.needed:
            out.append(f"  {one.name}: {clean(one.why)}" + ("" if one.required else "; empty without it"))
        if any(one.why == ".env has it" for one in result.needed):
            out.append("  this sets all that is in .env: set -a; . ./.env; set +a")
    if result.lost:
        out += ["", "not carried over"]
        for item in result.lost:
            out.append(
                f"  {clean(item.where)}" + (f" ({clean(item.what)})" if item.what else "") + f": {clean(item.why)}"
            )
            out += [f"    -> {clean(item.way_out)}"] if item.way_out else []
    if result.unneeded:
        out += ["", f"not needed here: {count(len(result.unneeded), 'key')}; --json lists them"]
    return out
