"""A service's logs as one stream: the newest lines, then those that come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from shoal.api.log_files import FILES_MAX, LogFile, Source, by_time, newest, sources
from shoal.model.status import LogLine

POLL_S = 0.2
KEEPALIVE_S = 15.0
BATCH = 500
"""Lines in one piece of the answer."""


async def log_lines(
    logs: Path, name: str, replica: str | None, *, tail: int, since: str, follow: bool, closing: asyncio.Event
) -> AsyncGenerator[list[LogLine]]:
    """Batches of lines, each by time; an empty batch keeps the connection alive. Ends when `closing` is set.

    Followed files are looked at every 0.2 s, so that lines of two replicas may come out of order across two looks.
    """
    files: dict[Path, LogFile] = {}
    there = sources(logs, name, replica)
    known = {source.path for source in there}
    try:
        for source in there[:FILES_MAX]:
            _open(files, source, whole_lines=follow)
        lines = newest(files.values(), tail, since)
        for start in range(0, len(lines), BATCH):
            yield lines[start : start + BATCH]
        del lines
        silent_s = 0.0
        while follow and not closing.is_set():
            for source in sources(logs, name, replica):
                if source.path not in known:
                    known.add(source.path)
                    _open(files, source, whole_lines=True, from_start=True)
            grown, more = _grown(files)
            for start in range(0, len(grown), BATCH):
                yield grown[start : start + BATCH]
            silent_s = 0.0 if grown else silent_s + POLL_S
            if silent_s >= KEEPALIVE_S:
                silent_s = 0.0
                yield []
            if not more:
                await _wait(closing, POLL_S)
    finally:
        for file in files.values():
            file.close()


def _open(files: dict[Path, LogFile], source: Source, *, whole_lines: bool, from_start: bool = False) -> None:
    try:
        files[source.path] = LogFile(source, whole_lines=whole_lines, from_start=from_start)
    except OSError:
        pass  # gone since it was listed, or not readable: the others go on


def _grown(files: dict[Path, LogFile]) -> tuple[list[LogLine], bool]:
    lines: list[LogLine] = []
    more = False
    for file in files.values():
        some, again = file.grown()
        lines += some
        more = more or again
    return by_time(lines), more


async def _wait(closing: asyncio.Event, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(closing.wait(), timeout_s)
    except TimeoutError:
        pass
