"""The last lines of a process's log."""

from __future__ import annotations

import os
import time
from pathlib import Path

LINES = 20
_READ_MAX = 65_536
_STAMP_LENGTH = len("2026-01-31T12:00:00.123456Z")


def tail(path: Path, *, since: float = 0.0, lines: int = LINES) -> tuple[str, ...]:
    """What was logged last, without the time stamps: the lines from `since` (seconds of the epoch) on, at most `lines`.

    Reads the end of the file and, when it was rotated just now, of the one before. Empty where there is no log.
    """
    text = _end_of(path)
    if text.count(b"\n") < lines:
        text = _end_of(path.with_name(path.name + ".1")) + text
    return select(text, since=since, lines=lines)


def select(text: bytes, *, since: float, lines: int = LINES) -> tuple[str, ...]:
    first = _stamp(since).encode()
    found: list[str] = []
    for line in text.split(b"\n"):
        stamp, _, content = line.partition(b" ")
        if len(stamp) == _STAMP_LENGTH and stamp >= first:
            found.append(content.decode("utf-8", "replace").rstrip())
    return tuple(found[-lines:])


def _stamp(at: float) -> str:
    micros = round(at * 1_000_000)
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(micros // 1_000_000))
    return f"{seconds}.{micros % 1_000_000:06d}Z"


def _end_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _READ_MAX))
            text = file.read()
    except OSError:
        return b""
    return text.partition(b"\n")[2] if size > _READ_MAX else text
