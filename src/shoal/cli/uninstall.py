"""`shoal uninstall`."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from shoal.cli.install import run_systemctl, unit_folder, unit_of
from shoal.cli.options import file_option, shoal_command
from shoal.cli.output import emit, note, say
from shoal.errors import ConflictError, EngineError


@shoal_command("uninstall", ("shoal uninstall", "remove the unit; the app goes on until it is stopped"))
@click.option("--system", is_flag=True, help="The machine's unit; needs root.")
@file_option()
def command(system: bool, file: Path | None, as_json: bool) -> None:
    """Remove the unit that `shoal install` wrote. What runs goes on: `shoal down` stops it."""
    unit = unit_of(file, system, None)
    path = unit_folder(system) / unit.name
    found = path.exists()
    if found:
        if "shoal install" not in path.read_text():
            raise ConflictError(f"{path} is not of Shoal's making", way_out="remove it yourself")
        if shutil.which("systemctl") is not None:
            try:
                run_systemctl(system, "disable", unit.name)
            except EngineError as error:
                note(str(error))
        path.unlink(missing_ok=True)
    if as_json:
        emit({"unit": unit.name, "path": str(path), "removed": found})
    else:
        say(f"{path} is removed" if found else f"there is no {path}")
