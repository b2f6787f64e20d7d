"""The Python environment of each service, made by uv once for all services with the same inputs.

    <state>/envs/<digest>/                      a virtual environment
    <state>/envs/<digest>/shoal-finished.json   written last: without it the folder is half of one, and is made again
    <state>/envs/<digest>.lock                  held while it is made

An environment is made in place: the scripts of a virtual environment name their interpreter's absolute path, so that a
folder which is moved afterwards would not run.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from shoal.engines.local import interpreters, pins, recipes, uv
from shoal.engines.local.filelock import FileLock
from shoal.engines.local.interpreters import Wanted
from shoal.engines.local.recipes import Recipe, Source
from shoal.engines.local.sources.copying import clone, unwritable
from shoal.engines.local.sources.snapshots import Snapshot
from shoal.errors import EngineError

FLAGS = ("--compile-bytecode",)
FINISHED = "shoal-finished.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a service's Python is."""

    python: Path
    folder: Path | None
    """Of the virtual environment; None: Shoal's own interpreter."""
    warning: str = ""
    """Why it cannot be made again elsewhere; empty: it can."""
    way_out: str = ""
    version: str = ""
    """Of an interpreter that is not Shoal's own and has no virtual environment: `3.12.1`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    recipe: Recipe
    interpreter: Path
    """What it is made with."""
    environment: Environment


class Environments:
    """`folder`: where they are kept. `python`: the interpreter that they are made with."""

    def __init__(self, folder: Path, *, python: Path | None = None) -> None:
        self._folder = folder
        self._python = python or Path(sys.executable)

    def locate(
        self,
        service_folder: Path,
        app_folder: Path,
        *,
        dev: bool = False,
        snapshot: Snapshot | None = None,
        python: str = "",
        service: str = "",
    ) -> Environment:
        """The environment that `prepare` gives; it may not exist yet. EngineError: its inputs cannot be read, or there
        is no such Python."""
        return self._plan(service_folder, app_folder, dev, snapshot, python, service).environment

    async def prepare(
        self,
        service_folder: Path,
        app_folder: Path,
        progress: uv.Progress,
        *,
        dev: bool = False,
        snapshot: Snapshot | None = None,
        python: str = "",
        service: str = "",
    ) -> Environment:
        """Makes it unless it exists. `dev`: the developer's `.venv` is preferred. `snapshot`: it is made from that, and
        nothing in it leads back to the working tree. `python`: the version that `service` wants; empty: what stands
        beside its requirements. EngineError: why not, with uv's last lines."""
        plan = await asyncio.to_thread(self._plan, service_folder, app_folder, dev, snapshot, python, service)
        recipe, environment = plan.recipe, plan.environment
        if not recipe.builds or _is_finished(environment):
            return environment
        assert environment.folder is not None
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(environment.folder.with_suffix(".lock"))
        except OSError as error:
            raise EngineError(f"{self._folder} cannot be written: {error.strerror}") from error
        async with lock.held(lambda: progress("waits for the environment that another replica makes")):
            if not _is_finished(environment):
                try:
                    await self._make(plan, environment.folder, progress, snapshot)
                except EngineError:
                    await asyncio.to_thread(shutil.rmtree, environment.folder, ignore_errors=True)
                    raise
        return environment

    def collect(self, needed: Collection[Path]) -> None:
        """Removes those that are none of `needed`, by their folders; half of one is being made, and stays. Blocks."""
        try:
            marks = list(self._folder.glob(f"*/{FINISHED}"))
        except OSError:
            return
        for mark in marks:
            if mark.parent not in needed:
                try:
                    mark.unlink()  # first: nobody believes what is left of it
                except OSError:
                    continue
                shutil.rmtree(mark.parent, ignore_errors=True)

    def _plan(
        self, service_folder: Path, app_folder: Path, dev: bool, snapshot: Snapshot | None, python: str, service: str
    ) -> _Plan:
        recipe = _recipe(service_folder, app_folder, dev, snapshot)
        beside = recipe.folder if recipe.builds else None
        wanted = pins.python(python, beside, service_folder, app_folder, snapshot)
        if recipe.source is Source.VENV:
            return self._made(recipe, wanted, dev, service)
        interpreter = self._interpreter(wanted, service)
        if recipe.builds:
            # Editable from the working tree, and not so from a snapshot: two environments.
            pinned = snapshot is not None and recipe.source is Source.REQUIREMENTS and recipe.holds_projects
            flags = (*FLAGS, "--no-editable") if pinned else FLAGS
            folder = self._folder / recipes.digest(recipe, flags=flags, interpreter=interpreter)
            environment = Environment(python=folder / "bin" / "python", folder=folder)
        else:
            own = interpreter == self._python
            environment = Environment(
                python=interpreter,
                folder=None,
                version="" if own else interpreters.version_of(str(interpreter)),
                warning="runs in Shoal's own Python environment"
                if own
                else f"runs on {interpreter}, with what is installed there",
                way_out=f"write its packages into {recipe.folder / 'requirements.txt'}; Shoal installs them",
            )
        return _Plan(recipe=recipe, interpreter=interpreter, environment=environment)

    def _made(self, recipe: Recipe, wanted: Wanted | None, dev: bool, service: str) -> _Plan:
        """A `.venv` that somebody else made."""
        folder = recipe.folder / ".venv"
        version = _version_in(folder)
        if wanted is not None and version and not wanted.takes(version):
            raise EngineError(
                f"service {service!r} wants Python {wanted.text} ({wanted.source}), and {folder} has {version}",
                way_out=f"make it with Python {wanted.text}, or correct 'python'",
            )
        environment = Environment(
            python=folder / "bin" / "python",
            folder=folder,
            warning="" if dev else f"runs in {folder}, which is not reproducible",
            way_out=f"write its packages into {recipe.folder / 'requirements.txt'}",
        )
        return _Plan(recipe=recipe, interpreter=self._python, environment=environment)

    def _interpreter(self, wanted: Wanted | None, service: str) -> Path:
        if wanted is None or wanted.takes(interpreters.version_of(str(self._python))):
            return self._python
        return interpreters.find("Python", wanted, service)

    async def _make(self, plan: _Plan, folder: Path, progress: uv.Progress, snapshot: Snapshot | None) -> None:
        recipe = plan.recipe
        await progress(f"making its environment from {recipe.source}")
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if snapshot is None:
            await self._install(plan, folder, progress, what=recipe.folder, cwd=recipe.folder)
        else:
            # Built in a copy: build back ends write beside what they build.
            scratch = folder.with_suffix(".source")
            inside = recipe.folder.relative_to(snapshot.root)
            try:
                await asyncio.to_thread(_copy_for_uv, snapshot, recipe, scratch)
                await self._install(plan, folder, progress, what=snapshot.origin / inside, cwd=scratch / inside)
            finally:
                await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
        await asyncio.to_thread(_finish, recipe, folder)

    async def _install(self, plan: _Plan, folder: Path, progress: uv.Progress, *, what: Path, cwd: Path) -> None:
        """`what`: the folder that errors name."""
        recipe = plan.recipe
        binary = uv.find_uv()

        async def run(*arguments: str, **env: str) -> None:
            name = f"the environment of {what / recipe.source}"
            await uv.run(binary, arguments, what=name, cwd=cwd, env=env, progress=progress)

        python = str(plan.interpreter)
        if recipe.source is Source.LOCK:
            arguments = ["sync", "--frozen", "--no-editable", "--no-dev", "--python", python, *FLAGS]
            await run(*arguments, UV_PROJECT_ENVIRONMENT=str(folder))
        else:
            await run("venv", "--no-project", "--python", python, str(folder))
            if recipe.source is Source.REQUIREMENTS:
                wanted = ["-r", "requirements.txt"]
            else:
                wanted = ["."] if recipe.packaged else ["-r", "pyproject.toml"]
            await run("pip", "install", "--python", str(folder / "bin" / "python"), *FLAGS, *wanted)


def _recipe(service_folder: Path, app_folder: Path, dev: bool, snapshot: Snapshot | None) -> Recipe:
    if snapshot is None:
        return recipes.find(service_folder, app_folder, dev=dev)
    recipe = recipes.find(snapshot.folder, snapshot.root)
    if recipe.source is not Source.OWN:
        return recipe
    # One that somebody else made is in no snapshot: it is used where it is, with a warning.
    made = recipes.find_made(service_folder, app_folder)
    return made or replace(recipe, folder=service_folder)


def _copy_for_uv(snapshot: Snapshot, recipe: Recipe, scratch: Path) -> None:
    """The snapshot, with no requirement editable: it would lead to a folder that is removed."""
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        for entry in snapshot.entries:
            target = scratch / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry.is_folder:
                target.mkdir(exist_ok=True)
            elif entry.is_link:
                target.symlink_to(entry.target)
            else:
                clone(entry.source, str(target), entry.mode)
        if recipe.source is Source.REQUIREMENTS:
            for path in recipe.inputs:
                if path.is_file() and path.is_relative_to(snapshot.root):
                    file = scratch / path.relative_to(snapshot.root)
                    file.write_text(recipes.without_editables(file.read_text("utf-8")), "utf-8")
    except OSError as error:
        raise unwritable(scratch, error, snapshot.size) from error


def _version_in(venv: Path) -> str:
    """Of a virtual environment, as it says in `pyvenv.cfg`. Empty: it does not."""
    try:
        text = (venv / "pyvenv.cfg").read_text("utf-8", "replace")
    except OSError:
        return ""
    found = re.search(r"^version(?:_info)?\s*=\s*([0-9]+(?:\.[0-9]+)*)", text, re.MULTILINE)
    return found[1] if found else ""


def _is_finished(environment: Environment) -> bool:
    folder = environment.folder
    if folder is None:
        return False
    try:
        mark = json.loads((folder / FINISHED).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    # An app's folder may have been moved, and the scripts in it name the old one; the interpreter is a link, and the
    # Python behind it may be gone.
    return bool(mark.get("folder") == str(folder)) and os.access(environment.python, os.X_OK)


def _finish(recipe: Recipe, folder: Path) -> None:
    content = {
        "folder": str(folder),
        "source": recipe.source,
        "inputs": [str(path) for path in recipe.inputs],
        "python": sys.version,
    }
    temporary = folder / (FINISHED + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / FINISHED)
    except OSError as error:
        raise EngineError(f"{folder} cannot be written: {error.strerror}") from error
