"""The overlay: the few packages that the runner needs, for each Python version, at the end of a service's path.

$XDG_CACHE_HOME/shoal/overlays/<hash>    shared by all apps of a user, complete as soon as it exists
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from shoal.engines.local import uv
from shoal.engines.local.environments import Environment
from shoal.engines.local.filelock import FileLock
from shoal.errors import EngineError

RUNNER = Path(__file__).parents[2] / "runner"
"""The folder of the runner; it is started by path and never imported here."""
REQUIREMENTS = RUNNER / "requirements.txt"


class Overlays:
    """`fallback`: where they go when the user's cache cannot be written."""

    def __init__(self, fallback: Path) -> None:
        self._fallback = fallback

    async def prepare(self, environment: Environment, progress: uv.Progress) -> Path:
        """The overlay that suits an environment's interpreter, made unless it exists. EngineError: why not."""
        name = digest(await asyncio.to_thread(python_version, environment))
        base = await asyncio.to_thread(self._base)
        folder = base / name
        if folder.is_dir():
            return folder
        async with FileLock(base / f"{name}.lock").held(
            lambda: progress("waits for the server, which another fetches")
        ):
            if not folder.is_dir():
                await progress("fetching the server for this Python")
                await _make(environment.python, folder, progress)
        return folder

    def _base(self) -> Path:
        for base in (cache_folder(), self._fallback):
            try:
                base.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError:
                continue
            if os.access(base, os.W_OK):
                return base
        raise EngineError(f"neither {cache_folder()} nor {self._fallback} can be written")


def cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path("~/.cache").expanduser()) / "shoal" / "overlays"


def digest(version: str) -> str:
    """Of all that decides what is in it. `version`: `3.11`, the part of it that packages are built for."""
    text = "\n".join((version, sys.implementation.name, sysconfig.get_platform(), REQUIREMENTS.read_text("utf-8")))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def python_version(environment: Environment) -> str:
    """`3.11`. A virtual environment says in `pyvenv.cfg` which Python it is for."""
    if environment.folder is not None:
        try:
            for line in (environment.folder / "pyvenv.cfg").read_text("utf-8", "replace").splitlines():
                key, _, value = line.partition("=")
                if key.strip() in ("version", "version_info"):
                    return ".".join(value.strip().split(".")[:2])
        except OSError:
            pass
    if environment.version:
        return ".".join(environment.version.split(".")[:2])
    return f"{sys.version_info.major}.{sys.version_info.minor}"


async def _make(python: Path, folder: Path, progress: uv.Progress) -> None:
    temporary = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=f".{folder.name}-", dir=folder.parent))
    try:
        arguments = ("pip", "install", "--python", str(python), "--target", str(temporary), "--no-deps")
        pinned = ("--require-hashes", "--compile-bytecode", "-r", str(REQUIREMENTS))
        what = f"the server for {python}"
        await uv.run(uv.find_uv(), arguments + pinned, what=what, cwd=folder.parent, env={}, progress=progress)
        await asyncio.to_thread(temporary.rename, folder)
    except OSError as error:
        raise EngineError(f"{folder} cannot be written: {error.strerror}") from error
    finally:
        await asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True)
