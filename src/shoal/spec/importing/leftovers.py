"""What of a compose file has no place in an app file, each with the reason; and what needs none."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from shoal.spec.importing import known, notation
from shoal.spec.importing.composefile import ComposeFile, depends_on
from shoal.spec.importing.facts import Kind
from shoal.spec.importing.keys import accepts
from shoal.spec.importing.notation import Mount
from shoal.spec.importing.parts import Part, covers_source
from shoal.spec.importing.report import Lost

PRIVILEGED = 1024
WHY_NOT = {False: "a service has one port", True: "these are more ports than a service should have"}
OVERRIDES = (
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
_TOP = {"services", "version", "name", "networks", "volumes", "secrets", "configs"}


def leftovers(file: ComposeFile, parts: dict[str, Part], profiles: Collection[str]) -> tuple[list[Lost], list[str]]:
    lost: list[Lost] = []
    unneeded: list[str] = []
    for key, value in file.top.items():
        if key == "include":
            lost.append(Lost(where="include", what=notation.short(value), why="only this one file is read",
                             way_out="import the others by themselves, and put the services together"))  # fmt: skip
        elif key not in _TOP and not key.startswith("x-"):
            lost.append(Lost(where=notation.short(key), what="", why="Shoal has nothing like it"))
    networks = file.top.get("networks")
    if networks:
        unneeded.append("networks: `calls` says who calls whom")
    lost += [
        Lost(where=name, what="", why="only one file is read, and compose would lay this one over it",
             way_out="docker compose config writes both as one")
        for name in OVERRIDES if file.folder.is_file(name)
    ]  # fmt: skip
    for part in parts.values():
        if part.draft is None:
            _volumes(part, lost, unneeded)
            continue
        for key, value in part.facts.parts.items():
            _key(part, key, value, lost, unneeded)
        _ports(part, lost)
        _volumes(part, lost, unneeded)
    return lost, unneeded


def _key(part: Part, key: str, value: Any, lost: list[Lost], unneeded: list[str]) -> None:
    where = f"{part.facts.name}.{key}"
    if value is None:
        return
    if key == "labels":
        if any(name.startswith(("traefik.", "caddy")) for name in notation.mapping(value)):
            lost.append(Lost(where=where, what="routes", why="labels that make a proxy route are not read",
                             way_out="write them as `gateway: {routes: ...}`"))  # fmt: skip
        else:
            unneeded.append(where)
    elif key == "deploy" and isinstance(value, dict):
        if "resources" in value:
            lost.append(Lost(where=f"{where}.resources", what="", why="Shoal sets no limits on memory and CPU"))
        lost += [
            Lost(where=f"{where}.{inner}", what=notation.short(value[inner]), why="there is one machine")
            for inner in ("placement", "mode", "endpoint_mode")
            if inner in value
        ]
        unneeded += [f"{where}.{inner}" for inner in ("update_config", "rollback_config", "labels") if inner in value]
    elif key == "depends_on":
        for other, how in depends_on(value).items():
            if notation.is_true(how.get("restart")):
                lost.append(
                    Lost(where=f"{where}.{other}", what="restart", why="a service is not restarted with another")
                )
    elif key in known.HANDLED or (part.draft is not None and key in part.draft.keys) or key.startswith("x-"):
        return
    elif key in known.UNNEEDED:
        unneeded.append(where)
    else:
        why, way_out = known.REASONS.get(key, ("Shoal has nothing like it", ""))
        lost.append(Lost(where=where, what=notation.short(value), why=why, way_out=way_out))


def _ports(part: Part, lost: list[Lost]) -> None:
    assert part.draft is not None
    where = f"{part.facts.name}.ports"
    more: list[int] = []
    for mapping in part.facts.mappings:
        if mapping.protocol != "tcp":
            lost.append(Lost(where=where, what=mapping.written, why=f"{mapping.protocol} does not go through the mesh"))
        elif mapping.declared and mapping.target not in (part.facts.port, *more, *part.facts.further.values()):
            more.append(mapping.target)
        if mapping.ip and mapping.ip not in ("127.0.0.1", "0.0.0.0", "[::]", "::", "[::1]", "localhost"):
            lost.append(Lost(where=where, what=mapping.written, why="Shoal publishes on 127.0.0.1 and [::1]"))
    if not more or part.facts.kind is Kind.OUTSIDE:
        return
    low = [port for port in more if port < PRIVILEGED]
    rest = [port for port in more if port >= PRIVILEGED]
    if low:
        lost.append(Lost(where=where, what=", ".join(map(str, low)), why="only root may take a port below 1024"))
    if rest:
        what = ", ".join(map(str, rest))
        lost.append(Lost(where=where, what=what, why=WHY_NOT[accepts("ports", {"x": 1})]))


def _volumes(part: Part, lost: list[Lost], unneeded: list[str]) -> None:
    """A mount of the source over itself is what happens here anyway."""
    facts = part.facts
    if facts.kind is not Kind.NATIVE:
        if facts.mounts:
            unneeded.append(f"{facts.name}.volumes")
        return
    for mount in facts.mounts:
        where = f"{facts.name}.volumes"
        if mount.written in facts.carried:
            continue
        if covers_source(part, mount):
            unneeded.append(f"{where} ({mount.written})")
        else:
            lost.append(_lost_mount(where, mount))


def _lost_mount(where: str, mount: Mount) -> Lost:
    if not mount.source:
        return Lost(where=where, what=mount.written, why="a folder of the container alone is the folder itself here")
    if mount.source == "/var/run/docker.sock":
        return Lost(where=where, what=mount.written, why="there are no containers to look at")
    if mount.target.endswith("node_modules"):
        return Lost(where=where, what=mount.written, why="packages are where the source is")
    if mount.kind == "bind":
        return Lost(where=where, what=mount.written, why=f"{mount.source} is not here",
                    way_out="make it, and write it in `volumes`")  # fmt: skip
    return Lost(where=where, what=mount.written, why=f"a {mount.kind} is not mounted",
                way_out="let the program write below $SHOAL_DATA_DIR, which stays")  # fmt: skip
