"""What a service's Python environment is made from: the nearest lock, project or requirements, and their digest."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from shoal.errors import EngineError


class Source(StrEnum):
    LOCK = "uv.lock"
    PROJECT = "pyproject.toml"
    REQUIREMENTS = "requirements.txt"
    VENV = ".venv"
    """One that somebody else made: used as it is."""
    OWN = "none"
    """Nothing was found: Shoal's own interpreter and packages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    source: Source
    folder: Path
    """Where it was found; the service's own where nothing was."""
    inputs: tuple[Path, ...] = ()
    """Files and folders whose content decides what is installed."""
    packaged: bool = False
    """The project itself is installed, beside its dependencies."""

    @property
    def builds(self) -> bool:
        return self.source in (Source.LOCK, Source.PROJECT, Source.REQUIREMENTS)

    @property
    def holds_projects(self) -> bool:
        """Local projects are installed, and not only what an index has."""
        return any(path.is_dir() for path in self.inputs)


IGNORED = frozenset(
    {".git", ".hg", ".shoal", ".venv", "venv", "node_modules", "__pycache__", "build", "dist", ".mypy_cache",
     ".pytest_cache", ".ruff_cache", ".tox"}
)  # fmt: skip
"""Folders of a project that do not change what is installed from it."""


def find(service_folder: Path, app_folder: Path, *, dev: bool = False) -> Recipe:
    """The nearest, from the service's folder up to the app's; with `dev` the developer's own `.venv` before all others.
    EngineError: what was found cannot be read."""
    folders = list(upward(service_folder, app_folder))
    if dev and (venv := _venv_in(folders)) is not None:
        return venv
    for folder in folders:
        recipe = _recipe_in(folder, folders)
        if recipe is not None:
            return recipe
    return _venv_in(folders) or Recipe(source=Source.OWN, folder=service_folder)


def find_made(service_folder: Path, app_folder: Path) -> Recipe | None:
    """The nearest `.venv` that somebody else made."""
    return _venv_in(list(upward(service_folder, app_folder)))


def without_editables(requirements: str) -> str:
    """The text of a requirements file in which no local project is editable."""
    lines = (
        re.sub(r"^(\s*)(?:-e|--editable)[ =]?\s*", r"\1", line) if _LOCAL.match(line) else line
        for line in requirements.splitlines(keepends=True)
    )
    return "".join(lines)


def _venv_in(folders: list[Path]) -> Recipe | None:
    for folder in folders:
        if os.access(folder / ".venv" / "bin" / "python", os.X_OK):
            return Recipe(source=Source.VENV, folder=folder)
    return None


def digest(recipe: Recipe, *, flags: tuple[str, ...], interpreter: Path) -> str:
    """32 hex digits; equal for services that can share one environment."""
    sha = hashlib.sha256()

    def add(*parts: str | bytes) -> None:
        for part in parts:
            raw = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
            sha.update(len(raw).to_bytes(8, "big") + raw)

    add(recipe.source, sys.version, sysconfig.get_platform(), os.path.realpath(interpreter), *flags)
    for path in recipe.inputs:
        for file in _files(path):
            try:
                add(os.path.relpath(file, recipe.folder), file.read_bytes())
            except OSError as error:
                raise EngineError(f"{file} cannot be read: {error.strerror}") from error
    return sha.hexdigest()[:32]


def upward(service_folder: Path, app_folder: Path) -> Iterator[Path]:
    """The folders from the service's up to the app's."""
    service_folder, app_folder = service_folder.resolve(), app_folder.resolve()
    yield service_folder
    if service_folder.is_relative_to(app_folder):
        for parent in service_folder.parents:
            if not parent.is_relative_to(app_folder):
                return
            yield parent


def _recipe_in(folder: Path, folders: list[Path]) -> Recipe | None:
    pyproject, requirements = folder / "pyproject.toml", folder / "requirements.txt"
    project = _read_project(pyproject) if pyproject.is_file() else None
    if project is not None:
        packaged = "build-system" in project or bool(project.get("tool", {}).get("uv", {}).get("package"))
        source_tree = (folder,) if packaged else (pyproject,)
        lock = next((f / "uv.lock" for f in folders[folders.index(folder) :] if (f / "uv.lock").is_file()), None)
        if lock is not None:
            _check_lock(lock, project)
            root = (lock.parent / "pyproject.toml",) if lock.parent != folder else ()
            beside = tuple(path for path in _local_packages(lock) if path != folder and path not in root)
            inputs = (lock, *root, *source_tree, *beside)
            return Recipe(source=Source.LOCK, folder=folder, inputs=inputs, packaged=packaged)
        declares = "dependencies" in project["project"] or "dependencies" in project["project"].get("dynamic", [])
        if declares or not requirements.is_file():
            return Recipe(source=Source.PROJECT, folder=folder, inputs=source_tree, packaged=packaged)
    if requirements.is_file():
        return Recipe(source=Source.REQUIREMENTS, folder=folder, inputs=tuple(_with_includes(requirements)))
    return None


def _read_project(pyproject: Path) -> dict[str, Any] | None:
    """None: it has no [project], so it is about tools and not about dependencies."""
    try:
        content = tomllib.loads(pyproject.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{pyproject} cannot be read: {error}") from error
    return content if isinstance(content.get("project"), dict) else None


def _check_lock(lock: Path, project: dict[str, Any]) -> None:
    """`uv sync --frozen` believes the lock; a dependency that was added since would only be missed at import. (With
    `--locked`, uv itself would compare, and refuse every lock that was made against another index.)"""
    try:
        packages = tomllib.loads(lock.read_text("utf-8")).get("package", [])
    except (OSError, ValueError) as error:
        raise EngineError(f"{lock} cannot be read: {error}", way_out="make it again: uv lock") from error
    locked = {_normal(str(package.get("name", ""))) for package in packages}
    wanted = project["project"].get("dependencies", [])
    names = [found.group() for text in wanted if (found := re.match(r"[A-Za-z0-9._-]+", str(text).strip()))]
    missing = [name for name in names if _normal(name) not in locked]
    if missing:
        raise EngineError(
            f"{lock} is older than its pyproject.toml: it lacks {', '.join(missing)}",
            way_out="bring it up to date: uv lock",
        )


def _local_packages(lock: Path) -> list[Path]:
    """The folders of the projects beside it that are locked too: members of a workspace, path dependencies."""
    found = []
    for package in tomllib.loads(lock.read_text("utf-8")).get("package", []):
        source = package.get("source", {})
        where = next((source[kind] for kind in ("editable", "directory", "path") if kind in source), None)
        if isinstance(where, str) and (path := Path(os.path.normpath(lock.parent / where))).exists():
            found.append(path)
    return sorted(found)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


_INCLUDE = re.compile(r"\s*(?:-r|-c|--requirement|--constraint)[ =]?\s*(?P<path>\S+)")
_LOCAL = re.compile(
    r"\s*(?:(?:-e|--editable)[ =]?\s*(?P<editable>[^\s:;#]+)|(?P<path>\.{1,2}(?:\[[^\]]*\]|/\S*)?|/\S+))\s*(?:[;#]|$)"
)


_FOUND = re.compile(r"\s*(?:-f|--find-links)[ =]?\s*(?P<path>[^\s:#]+)\s*(?:#|$)")


def _with_includes(file: Path, seen: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """The file, what it includes, and the local projects and folders of packages that it names."""
    file = file.resolve()
    if file in seen:
        return
    yield file
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise EngineError(f"{file} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if include := _INCLUDE.match(line):
            if "://" in include["path"]:
                continue
            other = file.parent / include["path"]
            if not other.is_file():
                raise EngineError(f"{file} includes {include['path']} in line {number}, which does not exist")
            yield from _with_includes(other, seen | {file})
        elif found := _FOUND.match(line):
            if (folder := Path(os.path.normpath(file.parent / found["path"]))).exists():
                yield folder
        elif local := _LOCAL.match(line):
            path = Path(os.path.normpath(file.parent / (local["editable"] or local["path"]).split("[")[0]))
            if path.exists():
                yield path


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for root, folders, files in os.walk(path):
        folders[:] = sorted(f for f in folders if f not in IGNORED and not f.endswith(".egg-info"))
        for file in sorted(files):
            found = Path(root, file)
            if found.is_file() and not file.endswith(".pyc"):
                yield found
