"""Which app a command means: the file named, or the nearest one upwards. Standard library only."""

from __future__ import annotations

from pathlib import Path

from shoal.errors import UsageError

FILE_NAME = "shoal.yaml"
STATE_NAME = ".shoal"


def app_file(named: Path) -> Path:
    """What `-f` names: the file itself, or `shoal.yaml` in a folder. Raises UsageError when there is none."""
    file = named / FILE_NAME if named.is_dir() else named
    if file.is_file():
        return file
    if file.exists():
        raise UsageError(f"{file} is no plain file", way_out="name an app file, or the folder it is in")
    raise _missing(file.parent, f"there is no app file {file}")


def nearest_app_file(start: Path) -> Path:
    """`shoal.yaml` in this folder or the nearest one above. Raises UsageError when there is none."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise _missing(start, f"there is no {FILE_NAME} in {start} or above it")


def nearest_app_folder(start: Path) -> Path:
    """The folder of a running or configured app: with `shoal.yaml` or `.shoal/` (`shoal up hello:app` leaves only
    that). Raises UsageError when there is none."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file() or (folder / STATE_NAME / "state.db").is_file():
            return folder
    raise _missing(start, f"there is no {FILE_NAME} in {start} or above it")


def app_folder(named: Path) -> Path:
    """The folder of the app that `-f` names, running or configured. Raises UsageError when there is none."""
    if named.is_dir() and (named / STATE_NAME / "state.db").is_file():
        return named
    return app_file(named).parent


def _missing(folder: Path, message: str) -> UsageError:
    if (folder / "shoal.yml").is_file():
        return UsageError(message, way_out=f"rename {folder / 'shoal.yml'} to {FILE_NAME}")
    return UsageError(
        message,
        way_out="go to an app's folder, or name one with -f; a single Python app needs no file: shoal up hello:app",
    )
