"""`shoal import`: a compose file or a Procfile -> an app file. It runs nothing, and reads only what is named."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from shoal.errors import UsageError
from shoal.spec.importing.compose import import_compose
from shoal.spec.importing.procfile import import_procfile
from shoal.spec.importing.reading import read_bytes
from shoal.spec.importing.report import Imported, Lost, Needed, Row

__all__ = ["Imported", "Lost", "Needed", "Row", "import_file"]

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml", "Procfile")


def import_file(
    path: Path,
    out: Path,
    hostname: str,
    *,
    services: Collection[str] = (),
    profiles: Collection[str] = (),
) -> Imported:
    """Imports a file, or the one of NAMES that is in a folder. `out`: the folder of the app file to be.

    Raises UsageError, or SpecError with the places in a compose file.
    """
    path = find(path)
    data = read_bytes(path)
    if not out.is_dir():
        raise UsageError(f"{out} is no folder", way_out="make it first")
    if is_procfile(path, data):
        if profiles:
            raise UsageError("a Procfile has no profiles", way_out="leave --profile away")
        return import_procfile(path, data, out, hostname, services)
    return import_compose(path, data, out, hostname, services, profiles)


def find(path: Path) -> Path:
    """The file itself, or the one in a folder."""
    if not path.is_dir():
        return path
    found = next((path / name for name in NAMES if (path / name).is_file()), None)
    if found is None:
        raise UsageError(f"there is neither a compose file nor a Procfile in {path}", way_out="name the file")
    return found


def is_procfile(path: Path, data: bytes) -> bool:
    """By its name, else by its content: a line for each process, and no keys of a compose file."""
    if path.name.lower().startswith("procfile") or path.suffix.lower() == ".procfile":
        return True
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        return False
    if path.name.lower().startswith("dockerfile"):
        raise UsageError(f"{path} is a Dockerfile", way_out="name the compose file that builds it, or a Procfile")
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip() and line[0] != "#"]
    return bool(lines) and all(re.match(r"[A-Za-z0-9_-]+:[ \t]*\S", line) for line in lines)
