"""Moves what processes write from their FIFOs into their log files: whole lines, none lost, none twice.

A line is first copied out of the FIFO with tee(2), which leaves it there, then written to the log, then taken out of
the FIFO. A keeper killed in between leaves a mark by which its successor knows how far it came.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import zlib
from collections.abc import Callable

from . import linux
from .logs import LogFile, stamp

READ_MAX = 65536
PARTIAL_S_MAX = 1.0
"""How long a line may stay unfinished before what there is of it is written."""
_PARTIAL_LOOK_S = 0.1
_REST_S = 0.005
"""Between two looks at one FIFO, unless it fills up: a process that writes line by line wakes us 200 times a second,
not once a line."""
_MARK_SIZE = 256
HIDDEN = b"[secret]"
"""In the place of a secret's value. One that is broken in two, by a line of more than a pipe, is not found."""


class Mark:
    """One small file that says which block is on its way from a FIFO to a log."""

    def __init__(self, path: str) -> None:
        self.pending = b""
        """What the last keeper left: `name inode offset size raw crc`. Empty: nothing was on its way."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.pending = os.pread(self._fd, _MARK_SIZE, 0).strip(b" \0")

    def set(self, name: str, inode: int, offset: int, size: int, raw: bytes) -> None:
        text = f"{name} {inode} {offset} {size} {len(raw)} {zlib.crc32(raw)}"
        os.pwrite(self._fd, text.encode().ljust(_MARK_SIZE), 0)

    def clear(self) -> None:
        os.pwrite(self._fd, b" " * _MARK_SIZE, 0)

    def close(self) -> None:
        os.close(self._fd)


class Desk:
    """What all taps share: the private pipe for copies, the mark, and where to complain."""

    def __init__(self, mark: Mark, say: Callable[[str], None]) -> None:
        self.mark = mark
        self.say = say
        self.copies_r, self.copies_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.can_tee = True

    def close(self) -> None:
        os.close(self.copies_r)
        os.close(self.copies_w)
        self.mark.close()


class Tap:
    """One FIFO and the log that it flows into. OSError: the FIFO cannot be opened."""

    def __init__(self, name: str, fifo: str, log: LogFile, desk: Desk) -> None:
        self.name = name
        self.log = log
        self.fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.due: float | None = 0.0
        """When (monotonic) to look at it next. None: when it has something."""
        self.not_before = 0.0
        self.ended = False
        """Nobody has the FIFO open any more."""
        self._desk = desk
        self._partial_since: float | None = None
        self._held = b""
        """Where tee is missing: what was read and has no line end yet."""
        self._dropped = 0
        self._why_dropped = ""
        self._hidden: list[bytes] = []
        try:
            capacity = fcntl.fcntl(self.fd, linux.F_GETPIPE_SZ)
        except OSError:
            capacity = READ_MAX
        # A pipe is full when its pages are used up, which may be at little more than half its bytes.
        self._full = capacity * 3 // 8

    def hide(self, values: list[bytes]) -> None:
        """What the log does not show, the longest first. Those of the name's last process stay hidden too."""
        self._hidden = sorted({*self._hidden, *values}, key=len, reverse=True)

    def wake(self, _events: int = 0) -> None:
        """The FIFO has something new."""
        self.due = self.not_before

    def pump(self, now: float, at: float, *, final: bool = False) -> int:
        """Moves at most one pipe full; returns how many bytes left the FIFO. `at`: the stamp, seconds of the epoch.
        `final`: unfinished lines too."""
        self.not_before = now + _REST_S
        self.due = None
        data = self._peek()
        if not data:
            return 0
        size = data.rfind(b"\n") + 1
        if len(data) > size:
            waited = 0.0 if self._partial_since is None else now - self._partial_since
            if final or (not size and (len(data) >= self._full or waited >= PARTIAL_S_MAX)):
                size = len(data)
            elif size or self._partial_since is None:
                self._partial_since = now
        if size == len(data):
            self._partial_since = None
        if size:
            self._move(data[:size], at)
            # Once more in any case: the event that brought us here may have told of the end too, and comes only once.
            self.due = now if len(data) >= self._full else self.not_before
        elif self._partial_since is not None:
            self.due = now + _PARTIAL_LOOK_S
        return size

    def drain(self, now: float, at: float) -> None:
        """Moves all that is there now, and no more: descendants may go on writing for ever."""
        if self.fd < 0:
            return
        left = self.size()
        while left > 0:
            moved = self.pump(now, at, final=True)
            if not moved:
                break
            left -= moved

    def size(self) -> int:
        """Bytes that wait."""
        answer = fcntl.ioctl(self.fd, termios.FIONREAD, b"\0\0\0\0")
        return int(struct.unpack("=i", answer)[0]) + len(self._held)

    def recover(self) -> None:
        """Finishes what the last keeper had begun with this FIFO: takes back a torn block, or takes out of the FIFO
        what the log already has."""
        pending = self._desk.mark.pending.split()
        if len(pending) != 6 or pending[0] != self.name.encode():
            return
        inode, offset, size, raw, crc = (int(part) for part in pending[1:])
        try:
            if self.log.prepare(0)[0] != inode:
                return
            there = os.stat(self.log.path).st_size
        except OSError:
            return
        if there < offset + size:
            self.log.cut(min(there, offset))
        elif zlib.crc32(self._peek()[:raw]) == crc:
            self._take(raw)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.log.close()

    def _peek(self) -> bytes:
        """What is in the FIFO, and stays there. Empty: nothing now, or `ended`."""
        if self._desk.can_tee and not self._held:
            try:
                size = linux.tee(self.fd, self._desk.copies_w, READ_MAX)
                self.ended = size == 0
                return os.read(self._desk.copies_r, size) if size else b""
            except BlockingIOError:
                return b""
            except OSError as error:
                self._desk.can_tee = False
                self._desk.say(f"no tee(2) here ({error.strerror}): log lines may be lost if the keeper is killed")
        try:
            part = os.read(self.fd, READ_MAX)
            self.ended = not part
            self._held += part
        except BlockingIOError:
            pass
        return self._held

    def _take(self, size: int) -> None:
        if self._held:
            self._held = self._held[size:]
            return
        while size > 0:
            part = os.read(self.fd, size)
            if not part:
                break
            size -= len(part)

    def _move(self, raw: bytes, at: float) -> None:
        lines = raw.count(b"\n") + (not raw.endswith(b"\n"))
        head = stamp(at)
        shown = raw
        for value in self._hidden:
            shown = shown.replace(value, HIDDEN)
        block = head + shown.removesuffix(b"\n").replace(b"\n", b"\n" + head) + b"\n"
        if self._dropped:
            note = f"shoal: {self._dropped} lines are missing here: {self._why_dropped}\n"
            block = head + note.encode() + block
        mark = self._desk.mark
        try:
            inode, offset = self.log.prepare(len(block))
            if not self._held:
                mark.set(self.name, inode, offset, len(block), raw)
            self.log.append(block)
        except OSError as error:
            # Never block a service for a full disk: its lines are dropped, and counted.
            if not self._dropped:
                self._why_dropped = error.strerror or str(error)
                self._desk.say(f"dropping log lines of {self.name}: {self._why_dropped}: {self.log.path}")
            self._dropped += lines
        else:
            if self._dropped:
                self._desk.say(f"{self._dropped} log lines of {self.name} were dropped; {self.log.path} works again")
                self._dropped = 0
        self._take(len(raw))
        try:
            mark.clear()
        except OSError:
            pass


EVENTS = getattr(select, "EPOLLIN", 0) | getattr(select, "EPOLLET", 0)
"""Edge-triggered: an unfinished line stays in the FIFO and must not wake us again and again."""
