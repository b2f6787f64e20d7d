"""Runs uv: progress while it works, its last words when it fails."""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from shoal.errors import EngineError, UnsupportedError

Progress = Callable[[str], Awaitable[None]]

TIME_S_MAX = 1800.0
"""For one command; a slow line and a large package."""
TAIL_LINES = 12

_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s`'\"<>)]+", re.IGNORECASE)
_RESOLVED = re.compile(r"Resolved (\d+) packages?")
_DOWNLOADING = re.compile(r"\s*Downloading (\S+)( \([^)]*\))?")
_REASON = re.compile(r"\s*(?:error:|cause:|Caused by:|\u00d7|\u2570\u2500\u25b6)\s*(?P<reason>.*)")
"""uv marks its reasons with words, a cross, or a small arrow."""
_BUILDING = re.compile(r"\s*Building (\S+)")


def find_uv() -> Path:
    """The uv that came with Shoal."""
    from uv import find_uv_bin

    try:
        return Path(os.fsdecode(find_uv_bin()))
    except FileNotFoundError as error:
        raise UnsupportedError("uv is not where its package should have put it", way_out="pip install uv") from error


async def run(
    uv: Path, arguments: Sequence[str], *, what: str, cwd: Path, env: Mapping[str, str], progress: Progress
) -> None:
    """Runs `uv ARGUMENTS`. `what` goes into the error: `the environment of /srv/shop`.

    EngineError: it failed; `detail` has its last lines, without addresses of indexes, which may hold credentials.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    try:
        process = await asyncio.create_subprocess_exec(
            str(uv),
            *arguments,
            cwd=cwd,
            env=_environment(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise EngineError(f"{what} cannot be made: {uv} does not run: {error.strerror}") from error
    assert process.stderr is not None
    try:
        async with asyncio.timeout(TIME_S_MAX):
            while line := await _line(process.stderr):
                tail.append(redact(line))
                if message := progress_of(line):
                    await progress(message)
            status = await process.wait()
    except TimeoutError:
        raise EngineError(f"{what} was not made in {TIME_S_MAX / 60:g} min", detail="\n".join(tail)) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status != 0:
        detail = "\n".join(tail)
        raise EngineError(f"{what} cannot be made: {reason_of(tail)}", way_out=way_out_of(detail), detail=detail)


def redact(line: str) -> str:
    return _ADDRESS.sub("[address]", line)


def progress_of(line: str) -> str:
    """What one of uv's lines means for somebody who waits; empty: nothing new."""
    if found := _RESOLVED.match(line):
        count = int(found[1])
        return f"installing {count} package{'' if count == 1 else 's'}"
    if found := _DOWNLOADING.match(line):
        return f"downloading {found[1]}{found[2] or ''}"
    if found := _BUILDING.match(line):
        return f"building {redact(found[1])}"
    return ""


def reason_of(lines: Sequence[str]) -> str:
    """The line that says most: what follows the last `Caused by:` or the cross."""
    for line in reversed(lines):
        if found := _REASON.match(line):
            return found["reason"].rstrip(".: ") or "uv failed"
    return next((line.strip() for line in reversed(lines) if line.strip()), "uv failed")


def way_out_of(text: str) -> str:
    lower = text.lower()
    if "no solution found" in lower or "not found in the package registry" in lower:
        return "correct the requirement that is named"
    if "requires-python" in lower or "no interpreter found" in lower or "python downloads" in lower:
        return "run Shoal with a Python that the project allows"
    if any(word in lower for word in ("dns", "connect", "network", "timed out", "certificate")):
        return "check the network, or uv's index settings (UV_DEFAULT_INDEX), and try again"
    if "hash" in lower:
        return "make the requirements' hashes again"
    return "try the same by hand with uv"


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    own = {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    kept = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    return kept | own | dict(env)


async def _line(stream: asyncio.StreamReader) -> str:
    """The next line with its end; longer than the reader's limit: what of it fits. Empty: no more."""
    try:
        raw = await stream.readline()
    except ValueError:
        raw = b"...\n"
    return raw.decode("utf-8", "replace").rstrip() + "\n" if raw else ""
