"""A compose file -> its services, each whole: `extends` followed, every scalar as text, as it is written."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NoReturn

from shoal.spec.compose import parse
from shoal.spec.document import Document, Loc
from shoal.spec.importing.notation import mapping, texts
from shoal.spec.importing.reading import Folder
from shoal.spec.importing.report import Lost
from shoal.spec.problems import Problem, SpecError, quoted

EXTENDS_MAX = 10
_MAPPINGS = {"environment", "labels", "extra_hosts", "sysctls", "annotations"}
_LISTS = {
    "ports", "expose", "volumes", "secrets", "configs", "env_file", "dns", "tmpfs", "cap_add", "cap_drop", "devices",
    "security_opt", "profiles", "links", "external_links",
}  # fmt: skip


class ComposeFile:
    """The file's parts, as mappings of texts. A place in it is known as long as it is not from another file."""

    def __init__(self, data: bytes, name: str, folder: Folder) -> None:
        """Raises SpecError when it is no compose file."""
        self.document = parse(data, name)
        self.folder = folder
        self.lost: list[Lost] = []
        if self.document.problems:
            raise SpecError(self.document.problems)
        plain = self.document.plain
        if not isinstance(plain, dict):
            self.refuse((), "this is no compose file: it must hold keys and values", "it has at least: services: {...}")
        if "services" not in plain and any(
            isinstance(v, dict) and ("image" in v or "build" in v) for v in plain.values()
        ):
            self.refuse(
                (), "this compose file is of version 1, without 'services'", "put its services under 'services:'"
            )
        if not isinstance(plain.get("services"), dict) or not plain["services"]:
            self.refuse(("services",), "there are no services in it", "a compose file has: services: {web: {...}}")
        self.top: dict[str, Any] = as_text(self.document)
        services = self.top["services"]
        for service, parts in services.items():
            if not isinstance(parts, dict):
                self.refuse(("services", service), "must be a mapping of keys and values")
            if "run" in parts and not {"image", "build"} & parts.keys():
                self.refuse(("services", service, "run"), "this is an app file already", "shoal check looks at it")
        self.services: dict[str, dict[str, Any]] = {
            service: self._extended(service, services, (), 0) for service in services
        }

    def refuse(self, loc: Loc, message: str, way_out: str = "") -> NoReturn:
        raise SpecError([self.problem(loc, message, way_out)])

    def problem(self, loc: Loc, message: str, way_out: str = "") -> Problem:
        return self.document.at_key(loc, message, way_out)

    def _extended(self, name: str, services: dict[str, Any], seen: tuple[str, ...], depth: int) -> dict[str, Any]:
        """A service with what it extends below it."""
        service = services.get(name)
        if not isinstance(service, dict):
            return {}
        service = dict(service)
        extends = service.pop("extends", None)
        if extends is None:
            return service
        if isinstance(extends, str):
            extends = {"service": extends}
        base = extends.get("service") if isinstance(extends, dict) else None
        file = extends.get("file") if isinstance(extends, dict) else None
        where = f"{name}.extends"
        if not isinstance(base, str):
            self._lose(where, "", "it does not say which service is extended")
            return service
        below, others = self._file(file, where) if isinstance(file, str) else ("", services)
        if others is None:
            return service
        key = f"{file or ''}:{base}"
        if key in seen or depth >= EXTENDS_MAX:
            self._lose(where, base, "it extends itself")
            return service
        if not isinstance(others.get(base), dict):
            self._lose(where, base, f"there is no service {quoted(base)} to extend")
            return service
        under = self._extended(base, others, (*seen, key), depth + 1)
        for gone in ("depends_on", "links", "volumes_from"):
            if isinstance(file, str):
                under.pop(gone, None)  # they name services of the other file
        return merged(_moved(under, below), service)

    def _file(self, file: str, where: str) -> tuple[str, dict[str, Any] | None]:
        """The services of another compose file, and the folder it is in, as seen from this one."""
        found = self.folder.find(file)
        text = None if found is None else self.folder.text(found)
        if found is None or text is None:
            self._lose(where, file, "this file is not below the folder of the compose file, so it was not read",
                       "copy what it says into this one")  # fmt: skip
            return "", None
        other = parse(text.encode(), file)
        plain = other.plain
        if other.problems or not isinstance(plain, dict) or not isinstance(plain.get("services"), dict):
            self._lose(where, file, "this file is no compose file")
            return "", None
        return Path(file).parent.as_posix(), as_text(other)["services"]

    def _lose(self, where: str, what: str, why: str, way_out: str = "") -> None:
        self.lost.append(Lost(where=where, what=what, why=why, way_out=way_out))


def as_text(document: Document) -> Any:
    """The data with every scalar as it is written: `0777` and `1.10` are no numbers here. Nothing is None."""

    def convert(value: Any, loc: Loc) -> Any:
        if isinstance(value, dict):
            return {key: convert(item, (*loc, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [convert(item, (*loc, i)) for i, item in enumerate(value)]
        return None if value is None else document.written(loc)

    return convert(document.plain, ())


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """As compose merges two definitions of one service: mappings by key, lists one after the other."""
    out = copy.deepcopy(under)
    for key, value in over.items():
        below = out.get(key)
        if key in _MAPPINGS and below is not None:
            out[key] = {**mapping(below), **mapping(value)}
        elif key == "depends_on" and below is not None:
            out[key] = {**depends_on(below), **depends_on(value)}
        elif key in _LISTS and below is not None:
            out[key] = [*_listed(below), *(item for item in _listed(value) if item not in _listed(below))]
        elif isinstance(value, dict) and isinstance(below, dict):
            out[key] = merged(below, value)
        else:
            out[key] = value
    return out


def depends_on(value: Any) -> dict[str, dict[str, Any]]:
    """Service -> its condition and the rest, whichever way it was written."""
    if isinstance(value, dict):
        return {name: dict(item) if isinstance(item, dict) else {} for name, item in value.items()}
    return {name: {} for name in texts(value)}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value is not None else []


def _moved(service: dict[str, Any], folder: str) -> dict[str, Any]:
    """Paths are relative to the file they stand in."""
    if folder in ("", "."):
        return service
    out = dict(service)
    build = out.get("build")
    if isinstance(build, str):
        out["build"] = f"{folder}/{build}"
    elif isinstance(build, dict) and isinstance(build.get("context"), str):
        out["build"] = {**build, "context": f"{folder}/{build['context']}"}
    if "env_file" in out:
        out["env_file"] = [
            f"{folder}/{item}" if isinstance(item, str) else {**item, "path": f"{folder}/{item.get('path')}"}
            for item in _listed(out["env_file"])
            if isinstance(item, str | dict)
        ]
    return out
