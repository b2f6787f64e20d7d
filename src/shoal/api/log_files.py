"""Reading the keeper's log files: the newest lines first, then what grows, through rotations. Blocking, never long.

A line is `2026-01-31T12:00:00.123456Z text`. A file that reaches 10 MB is renamed to `.log.1`, and a new one begins.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shoal.errors import UsageError
from shoal.model.status import LogLine

OWN = ("envoy", "daemon", "keeper")
"""Shoal's own parts, whose logs lie beside the services' folders."""

STEPS = ("build", "migrate")
"""In the place of a replica: the logs of a service's build steps or migrations, `build-3` that of its revision 3."""

FILES_MAX = 100
"""Logs that one request reads: the replicas that wrote last."""

BLOCK = 64 << 10
LINE_MAX = 1 << 20
"""Bytes after which a line is broken in two; keeps a file without line ends from filling the memory."""

_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@dataclass(frozen=True, slots=True)
class Source:
    """One log, and whose it is."""

    replica: str
    path: Path


def sources(logs: Path, name: str, replica: str | None) -> list[Source]:
    """The logs of a service's replicas (also of those that are gone), those written last first; of `envoy` and the
    like, their own. Empty when there is none yet. `replica`: only this one, `cart-r3`, `r3` or `3`; `build-2` or all of
    `build`: what its build steps printed; `migrate` likewise.

    `name` must be a DNS label, for it becomes a path. Raises UsageError when `replica` cannot be one of it.
    """
    if name in OWN:
        if replica not in (None, name):
            raise UsageError(f"{name} has no replicas", way_out="leave 'replica' out")
        # Envoys take over from one another, and write into two logs in turn.
        files = [name, "envoy-b"] if name == "envoy" else [name]
        return [Source(one, path) for one in files if (path := logs / f"{one}.log").exists()]
    if replica is None or replica in STEPS:
        only = f"{replica}-" if replica in STEPS else ""
        try:
            with os.scandir(logs / name) as entries:
                found = [
                    (entry.stat().st_mtime_ns, Source(entry.name.removesuffix(".log"), Path(entry.path)))
                    for entry in entries
                    if entry.name.endswith(".log") and entry.name.startswith(only)
                ]
        except FileNotFoundError:
            return []
        return [source for _, source in sorted(found, key=lambda pair: pair[0], reverse=True)]
    if re.fullmatch(rf"({'|'.join(STEPS)})-\d{{1,9}}", replica, re.ASCII):
        path = logs / name / f"{replica}.log"
        return [Source(replica, path)] if path.exists() else []
    number = replica.removeprefix(f"{name}-").removeprefix("r")
    if not (number.isascii() and number.isdigit()):
        raise UsageError(f"'{replica[:100]}' is no replica of {name}", way_out=f"name it like {name}-r1")
    source = Source(f"{name}-r{int(number)}", logs / name / f"{name}-r{int(number)}.log")
    return [source] if source.path.exists() else []


class LogFile:
    """One log that may grow. Close it."""

    def __init__(self, source: Source, *, whole_lines: bool, from_start: bool = False) -> None:
        """`whole_lines`: a last line without its end is left for `grown`. `from_start`: all of it counts as grown.
        Raises OSError."""
        self.source = source
        self._whole_lines = whole_lines
        self._fd = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._start = 0 if from_start else self._ends_at()
        self._offset = self._start
        self._rest = b""

    def close(self) -> None:
        os.close(self._fd)

    def backwards(self) -> Iterator[LogLine]:
        """What was there when it was opened, newest first, with the rotated file before it. A line without a time
        stamp gets that of the line after it."""
        at = ""
        for raw in self._raw_backwards():
            line = _parse(raw, self.source.replica)
            if line.at:
                at = line.at
            yield line if line.at else LogLine(replica=line.replica, at=at, text=line.text)

    def grown(self, budget: int = 4 * BLOCK) -> tuple[list[LogLine], bool]:
        """The lines that came since the last call, and whether there may be more already: at most `budget` bytes are
        read."""
        block = os.pread(self._fd, budget, self._offset)
        self._offset += len(block)
        lines = self._split(block)
        if len(block) == budget:
            return lines, True
        return lines, self._follow_rotation()

    def _follow_rotation(self) -> bool:
        """At the end of the open file: goes on with the next one, if any. Whether there may be more to read."""
        here = os.fstat(self._fd)
        if here.st_size < self._offset:
            # Cut, not renamed: whoever did that starts over.
            self._offset, self._rest = 0, b""
            return here.st_size > 0
        if here.st_size > self._offset:
            return True
        following = self._following(here)
        if following is None:
            return False
        if os.fstat(self._fd).st_size > self._offset:
            # Written between the last read and the rename.
            os.close(following)
        else:
            os.close(self._fd)
            self._fd, self._offset = following, 0
        return True

    def _following(self, here: os.stat_result) -> int | None:
        """The file that was begun after this one, opened; None while this one is the newest."""
        newest = _opened(self.source.path)
        if newest is None or os.path.sameopenfile(newest, self._fd):
            _closed(newest)
            return None
        between = _opened(self._rotated)
        if between is None or os.path.sameopenfile(between, self._fd) or os.fstat(between).st_mtime < here.st_mtime:
            _closed(between)
            return newest
        # Renamed twice since the last look: this one is gone, and `.log.1` came after it.
        _closed(newest)
        return between

    @property
    def _rotated(self) -> Path:
        return self.source.path.with_name(self.source.path.name + ".1")

    def _ends_at(self) -> int:
        """The size; of whole lines only, the end of the last one."""
        size = os.fstat(self._fd).st_size
        if not self._whole_lines:
            return size
        end = size
        while end > 0 and size - end < LINE_MAX:
            start = max(0, end - BLOCK)
            newline = os.pread(self._fd, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return end

    def _raw_backwards(self) -> Iterator[bytes]:
        yield from _lines_backwards(self._fd, self._start)
        fd = _opened(self._rotated)
        try:
            # Rotated since it was opened: then `.log.1` is the file that was just read.
            if fd is not None and not os.path.sameopenfile(fd, self._fd):
                yield from _lines_backwards(fd, os.fstat(fd).st_size)
        finally:
            _closed(fd)

    def _split(self, block: bytes) -> list[LogLine]:
        *whole, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > LINE_MAX:
            whole.append(self._rest)
            self._rest = b""
        return [_parse(raw, self.source.replica) for raw in whole]


def newest(files: Iterable[LogFile], tail: int, since: str) -> list[LogLine]:
    """The last `tail` lines of all files together, none of them older than `since`, oldest first."""
    found: list[LogLine] = []
    if tail > 0:
        for line in heapq.merge(*(file.backwards() for file in files), key=_at, reverse=True):
            if line.at < since:
                break
            found.append(line)
            if len(found) == tail:
                break
    found.reverse()
    return found


def by_time(lines: list[LogLine]) -> list[LogLine]:
    """Sorted by time stamp; lines of one replica keep their order. One without a stamp stays behind its predecessor."""
    keyed: list[tuple[str, LogLine]] = []
    at = ""
    for line in lines:
        at = line.at or at
        keyed.append((at, line))
    return [line for _, line in sorted(keyed, key=lambda pair: pair[0])]


def _at(line: LogLine) -> str:
    return line.at


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None  # not there, or not ours to read


def _closed(fd: int | None) -> None:
    if fd is not None:
        os.close(fd)


def _lines_backwards(fd: int, end: int) -> Iterator[bytes]:
    rest = b""
    first = True
    while end > 0:
        start = max(0, end - BLOCK)
        block = os.pread(fd, end - start, start) + rest
        end = start
        rest, *lines = block.split(b"\n")
        if first and lines and not lines[-1]:
            lines.pop()  # what stands after the last line's end is no line
        first = first and not lines and not rest
        yield from reversed(lines)
        if len(rest) > LINE_MAX:
            yield rest
            rest = b""
    if rest:
        yield rest


def _parse(raw: bytes, replica: str) -> LogLine:
    if raw[27:28] == b" " and _STAMP.fullmatch(raw, 0, 27):
        return LogLine(replica=replica, at=raw[:27].decode("ascii"), text=raw[28:].decode("utf-8", "replace"))
    return LogLine(replica=replica, at="", text=raw.decode("utf-8", "replace"))
