"""The build step of a revision: which one it is, what it depends on, and its run."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shoal.engines.local.keeper.logs import stamp
from shoal.engines.local.sources.copies import Progress
from shoal.engines.local.sources.snapshots import Snapshot
from shoal.errors import EngineError
from shoal.model.app import Command, Service

TIME_S_MAX = 1800.0
"""For one step; a slow line and many packages."""
TAIL_LINES = 20
SHELL = ("/bin/sh", "-c")

_BY_LOCK = {
    "package-lock.json": ("npm", "ci", "--no-audit", "--no-fund"),
    "npm-shrinkwrap.json": ("npm", "ci", "--no-audit", "--no-fund"),
    "pnpm-lock.yaml": ("pnpm", "install", "--frozen-lockfile"),
    "yarn.lock": ("yarn", "install", "--frozen-lockfile"),
}
_WITHOUT_LOCK = ("npm", "install", "--no-audit", "--no-fund", "--no-package-lock")
_PYTHON = ("python", "gunicorn", "uvicorn", "hypercorn", "granian", "flask", "celery", "waitress", "uv ")
_TOOLS = ("node", "npm", "pnpm", "yarn", "python3")
_NODE_VARIABLES = ("NODE_", "NPM_CONFIG_", "npm_config_", "YARN_", "PNPM_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    argv: tuple[str, ...]
    found: bool
    """By its lock file; False: somebody wrote it."""

    def __str__(self) -> str:
        return self.argv[2] if self.argv[:2] == SHELL else " ".join(self.argv)


def step_of(service: Service, snapshot: Snapshot, path: str) -> Step | None:
    """What is to be run before the first replica; None: nothing. `path`: where programs are looked for."""
    if service.build is not None:
        return Step(argv=service.build, found=False) if service.build else None
    if not isinstance(service.workload, Command) or _is_python(service.workload):
        return None
    if not _wants_packages(snapshot.folder) or _is_in_workspace(service, snapshot):
        return None
    locks = (argv for name, argv in _BY_LOCK.items() if (snapshot.folder / name).is_file())
    argv = next((argv for argv in locks if shutil.which(argv[0], path=path)), _WITHOUT_LOCK)
    return Step(argv=argv, found=True) if shutil.which(argv[0], path=path) else None


def key_of(snapshot: Snapshot, step: Step | None, service: Service, environment: str, path: str) -> str:
    """Of all that the result depends on: the source, the step, its variables, its Python environment and its tools.
    Without a step, the source alone."""
    if step is None:
        return snapshot.digest
    variables = [f"{k}={v}" for k, v in service.env if not step.found or k.startswith(_NODE_VARIABLES)]
    tools = [_identity(shutil.which(tool, path=path)) for tool in _TOOLS]
    parts = [snapshot.digest, *step.argv, "", *variables, "", environment, *tools]
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


async def run(
    service: str, step: Step, folder: Path, env: Mapping[str, str], log: Path, progress: Progress, descriptor: int
) -> None:
    """Runs it in `folder`; what it prints goes to `log`. `descriptor`: is held by all that it starts. EngineError: it
    failed, with its last lines in `detail`."""
    await progress(f"build: {step}")
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    seen = f"see all of it: shoal logs {service} --build (it is {log})"
    off = "; build: off uses the node_modules of the working tree" if step.found else ""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        process = await _start(step, folder, env, descriptor)
    except OSError as error:
        raise EngineError(
            f"the build step of {service} does not start: {step.argv[0]}: {error.strerror}",
            way_out="correct 'build' in the app file, or install the program",
        ) from error
    assert process.stdout is not None
    try:
        with log.open("wb") as file:
            _log(file, f"$ {step}")
            async with asyncio.timeout(TIME_S_MAX):
                while line := await _line(process.stdout):
                    tail.append(line.rstrip())
                    _log(file, line.rstrip())
                status = await process.wait()
            _log(file, f"exit code {status}")
    except TimeoutError:
        message = f"the build step of {service} did not end in {TIME_S_MAX / 60:g} min: {step}"
        raise EngineError(message, way_out=seen, detail="\n".join(tail)) from None
    finally:
        await _end(process)
    if status != 0:
        how = f"exit code {status}" if status > 0 else signal.Signals(-status).name
        raise EngineError(
            f"the build step of {service} failed: {step}: {how}", way_out=seen + off, detail="\n".join(tail)
        )


async def _start(step: Step, folder: Path, env: Mapping[str, str], descriptor: int) -> asyncio.subprocess.Process:
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *step.argv,
            cwd=folder,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(descriptor,),
        ),
        name=f"start {step}",
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # It may run already, and asyncio would end it alone, and nothing of what it has started.
        await asyncio.wait([starting])
        if starting.exception() is None:
            await _end(starting.result())
        raise


async def _end(process: asyncio.subprocess.Process) -> None:
    """With all that it started, unless it has ended."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        await process.wait()


def _is_python(workload: Command) -> bool:
    line = workload.argv[2] if workload.argv[:2] == SHELL else " ".join(workload.argv)
    return line.rpartition("/")[2].startswith(_PYTHON) or line.startswith(_PYTHON)


def _wants_packages(folder: Path) -> bool:
    try:
        package = json.loads((folder / "package.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(package, dict) and bool(package.get("dependencies") or package.get("devDependencies"))


def _is_in_workspace(service: Service, snapshot: Snapshot) -> bool:
    """Its packages are those of a folder above, which the snapshot does not hold."""
    folder = Path(service.folder)
    if any((snapshot.folder / name).is_file() for name in _BY_LOCK):
        return False
    return any((parent / "package.json").is_file() for parent in (folder.parent, folder.parent.parent))


def _identity(program: str | None) -> str:
    """Changes when the program does, without running it."""
    if program is None:
        return "-"
    real = os.path.realpath(program)
    try:
        info = Path(real).stat()
    except OSError:
        return real
    return f"{real}:{info.st_size}:{info.st_mtime_ns}"


def _log(file: BinaryIO, text: str) -> None:
    try:
        file.write(stamp(time.time()) + text.encode("utf-8", "replace") + b"\n")
        file.flush()
    except OSError:
        pass  # a full disk is told by what needs it more


async def _line(stream: asyncio.StreamReader) -> str:
    """The next line with its end; longer than the reader's limit: what of it fits. Empty: no more."""
    try:
        raw = await stream.readline()
    except ValueError:
        raw = b"...\n"
    return raw.decode("utf-8", "replace").rstrip() + "\n" if raw else ""
