"""One service of a compose file together with its Dockerfile: where its source is, its ports, its mounts."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from shoal.spec.importing import dockerfile, known, notation
from shoal.spec.importing.facts import Facts, Kind
from shoal.spec.importing.mapping import ImageFiles
from shoal.spec.importing.reading import Folder
from shoal.spec.importing.starting import SITES, find_command, find_place, find_port, working_folder
from shoal.spec.importing.variables import Variables


def gather(name: str, parts: dict[str, Any], top: dict[str, Any], folder: Folder, variables: Variables) -> Facts:
    """`top`: the whole file, for the secrets and configs that it defines."""
    facts = Facts(name=name, parts=parts)
    facts.image = variables.now(parts["image"]) if isinstance(parts.get("image"), str) else ""
    facts.mounts = notation.mounts(_now(parts.get("volumes"), variables))
    for key, default in (("secrets", "/run/secrets/{}"), ("configs", "/{}")):
        _read_given(facts, key, default, top.get(key), folder, variables)
    if parts.get("build") is not None:
        _read_build(facts, folder, variables)
    elif facts.image:
        facts.kind = Kind.OUTSIDE
        title = known.image(facts.image)
        if title is not None and title.role is known.Role.RUNTIME:
            _read_mounted(facts, folder)
        elif title is not None and title.role is known.Role.PROXY:
            _read_site(facts, folder)
    else:
        facts.why, facts.way_out = "it has neither 'build' nor 'image'", "add one"
    _read_ports(facts, variables)
    if facts.kind is Kind.NATIVE:
        facts.workdir = working_folder(facts, variables)
        find_command(facts, variables)
    if facts.kind is Kind.NATIVE:
        find_place(facts, folder)
        find_port(facts, variables)
    return facts


def _read_given(facts: Facts, key: str, default: str, defined: Any, folder: Folder, variables: Variables) -> None:
    value = facts.parts.get(key)
    for item in value if isinstance(value, list) else []:
        name = item.get("source") if isinstance(item, dict) else item
        target = item.get("target") if isinstance(item, dict) else None
        target = target if isinstance(target, str) else str(name)
        whole = posixpath.normpath(target if target.startswith("/") else default.format(target))
        entry = defined.get(name) if isinstance(defined, dict) and isinstance(name, str) else None
        file = entry.get("file") if isinstance(entry, dict) else None
        path = folder.relative(variables.now(file)) if isinstance(file, str) else None
        content, variable = (entry.get(k) if isinstance(entry, dict) else None for k in ("content", "environment"))
        if path is not None and folder.is_file(path):
            facts.given[whole] = path
        elif isinstance(content, str):
            facts.inline[whole] = variables.later(content)
        elif isinstance(variable, str) and variable.isidentifier():
            facts.inline[whole] = variables.later(f"${{{variable}}}")
        else:
            facts.lose(key, str(name), "its content is not in a file below this folder",
                       "give it to the program as a variable in `env`")  # fmt: skip


def _now(value: Any, variables: Variables) -> Any:
    if isinstance(value, dict):
        return {key: _now(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_now(item, variables) for item in value]
    return variables.now(value) if isinstance(value, str) else value


def _read_build(facts: Facts, folder: Folder, variables: Variables) -> None:
    build = _now(facts.parts["build"], variables)
    if isinstance(build, str):
        build = {"context": build}
    if not isinstance(build, dict):
        facts.why, facts.way_out = "'build' is not understood", "name a folder"
        return
    context = str(build.get("context") or ".")
    if re.match(r"[a-z+]+://|git@", context):
        facts.why, facts.way_out = f"its source is elsewhere ({context})", "clone it beside this file and import again"
        return
    relative = folder.relative(context)
    if relative is None:
        facts.why = f"its folder {context} is outside of the compose file's"
        facts.way_out = "move the compose file to a folder that holds all services, and import it there"
        return
    if not folder.is_folder(relative):
        facts.why, facts.way_out = f"its folder {context} does not exist", ""
        return
    facts.cwd = relative
    text = build.get("dockerfile_inline")
    if not isinstance(text, str):
        path = posixpath.join(relative, str(build.get("dockerfile") or "Dockerfile"))
        text = folder.text(path)
        if text is None and folder.relative(path) is None:
            facts.notes.append("its Dockerfile is outside of the compose file's folder and was not read")
    args = {key: value or "" for key, value in notation.mapping(build.get("args")).items()}
    target = build.get("target") if isinstance(build.get("target"), str) else None
    if text is not None:
        facts.stage = dockerfile.parse(text, args, target)
        if facts.stage is None and target:
            facts.why, facts.way_out = f"its Dockerfile has no stage '{target}'", ""
            return
    facts.kind = Kind.NATIVE
    facts.files = ImageFiles(folder, relative, facts.stage, _bound(facts, folder))
    if facts.stage is None and facts.parts.get("command") is None and facts.parts.get("entrypoint") is None:
        facts.kind = Kind.UNKNOWN
        facts.why = "there is no Dockerfile to read its command from"
        facts.way_out = "write the service with its 'command'"


def _read_mounted(facts: Facts, folder: Folder) -> None:
    """`image: node:20` with the source mounted into it: the source runs here as well."""
    bound = _bound(facts, folder)
    workdir = facts.parts.get("working_dir")
    if facts.parts.get("command") is None or not isinstance(workdir, str):
        return
    files = ImageFiles(folder, ".", None, bound)
    place = files.workdir(workdir)
    if place is not None and folder.is_folder(place):
        facts.kind, facts.files, facts.cwd = Kind.NATIVE, files, place
        facts.notes.append(f"{facts.image} is not used: what is mounted into it runs here")


def _read_site(facts: Facts, folder: Folder) -> None:
    """`image: nginx` with a folder in the place that it serves, and no configuration of its own: a static site."""
    served = [path for path, target in _bound(facts, folder) if target.rstrip("/") in SITES and folder.is_folder(path)]
    if served and not any("conf" in mount.target.lower() or "Caddyfile" in mount.target for mount in facts.mounts):
        facts.kind, facts.site = Kind.STATIC, served[0]
        facts.notes.append(f"{facts.image} is not used: Shoal serves the files itself")


def _bound(facts: Facts, folder: Folder) -> list[tuple[str, str]]:
    """Bind mounts of what is below the folder."""
    found: list[tuple[str, str]] = []
    for mount in facts.mounts:
        relative = folder.relative(mount.source) if mount.kind == "bind" and mount.source else None
        if relative is not None and mount.target.startswith("/"):
            found.append((relative, mount.target))
    return found


def _read_ports(facts: Facts, variables: Variables) -> None:
    mappings, strange = notation.ports(_now(facts.parts.get("ports"), variables))
    for item in strange:
        facts.lose("ports", item, "this port is not understood", "write it as 8080:80")
    mappings += notation.exposed(_now(facts.parts.get("expose"), variables))
    if facts.stage is not None:
        mappings += notation.exposed(list(facts.stage.exposed), declared=False)
    seen: set[tuple[int, str]] = set()
    for mapping in mappings:
        if (mapping.target, mapping.protocol) not in seen:
            seen.add((mapping.target, mapping.protocol))
            facts.mappings.append(mapping)
