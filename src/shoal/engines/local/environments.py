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
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from shoal.engines.local import recipes, uv
from shoal.engines.local.filelock import FileLock
from shoal.engines.local.recipes import Recipe, Source
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


class Environments:
    """`folder`: where they are kept. `python`: the interpreter that they are made with."""

    def __init__(self, folder: Path, *, python: Path | None = None) -> None:
        self._folder = folder
        self._python = python or Path(sys.executable)

    def locate(self, service_folder: Path, app_folder: Path, *, dev: bool = False) -> Environment:
        """The environment that `prepare` gives; it may not exist yet. EngineError: its inputs cannot be read."""
        return self._plan(service_folder, app_folder, dev)[1]

    async def prepare(
        self, service_folder: Path, app_folder: Path, progress: uv.Progress, *, dev: bool = False
    ) -> Environment:
        """Makes it unless it exists. `dev`: the developer's `.venv` is preferred. EngineError: why not, with uv's last
        lines."""
        recipe, environment = await asyncio.to_thread(self._plan, service_folder, app_folder, dev)
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
                    await self._make(recipe, environment.folder, progress)
                except EngineError:
                    await asyncio.to_thread(shutil.rmtree, environment.folder, ignore_errors=True)
                    raise
        return environment

    def _plan(self, service_folder: Path, app_folder: Path, dev: bool) -> tuple[Recipe, Environment]:
        recipe = recipes.find(service_folder, app_folder, dev=dev)
        if recipe.builds:
            name = recipes.digest(recipe, flags=FLAGS, interpreter=self._python)
            folder = self._folder / name
            return recipe, Environment(python=folder / "bin" / "python", folder=folder)
        if recipe.source is Source.VENV:
            folder = recipe.folder / ".venv"
            return recipe, Environment(
                python=folder / "bin" / "python",
                folder=folder,
                warning="" if dev else f"runs in {folder}, which is not reproducible",
                way_out=f"write its packages into {recipe.folder / 'requirements.txt'}",
            )
        return recipe, Environment(
            python=self._python,
            folder=None,
            warning="runs in Shoal's own Python environment",
            way_out=f"write its packages into {recipe.folder / 'requirements.txt'}; Shoal installs them",
        )

    async def _make(self, recipe: Recipe, folder: Path, progress: uv.Progress) -> None:
        await progress(f"making its environment from {recipe.source}")
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        what = f"the environment of {recipe.folder / recipe.source}"
        binary = uv.find_uv()

        async def run(*arguments: str, **env: str) -> None:
            await uv.run(binary, arguments, what=what, cwd=recipe.folder, env=env, progress=progress)

        python = str(self._python)
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
        await asyncio.to_thread(_finish, recipe, folder)


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
