"""Log files: stamped lines, rotated by size, and never torn."""

from __future__ import annotations

import errno
import os
import sys
import time

SIZE_MAX = 10 << 20
"""Bytes of a log file before it becomes `.1`."""


def stamp(at: float) -> bytes:
    """`2026-01-31T12:00:00.123456Z `"""
    micros = round(at * 1_000_000)
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(micros // 1_000_000))
    return f"{seconds}.{micros % 1_000_000:06d}Z ".encode()


class LogFile:
    """An append-only file. One writer."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._offset = 0

    def prepare(self, size: int) -> tuple[int, int]:
        """(inode, offset) of where the next `size` bytes will go; opens and rotates as needed. OSError: nowhere."""
        if self._fd >= 0:
            status = os.fstat(self._fd)
            if status.st_nlink and (not status.st_size or status.st_size + size <= SIZE_MAX):
                self._offset = status.st_size
                return status.st_ino, status.st_size
            self.close()
        self._fd = self._open()
        status = os.fstat(self._fd)
        if status.st_size and status.st_size + size > SIZE_MAX:
            os.rename(self.path, self.path + ".1")
            self.close()
            self._fd = self._open()
            status = os.fstat(self._fd)
        self._offset = status.st_size
        return status.st_ino, status.st_size

    def append(self, block: bytes) -> None:
        """Writes all of it, or nothing and raises OSError. After `prepare`."""
        try:
            written = os.write(self._fd, block)
            if written < len(block):
                written += os.write(self._fd, block[written:])
            if written < len(block):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self.cut(self._offset)
            raise

    def cut(self, offset: int) -> None:
        """Takes back what is beyond: a torn line."""
        try:
            os.ftruncate(self._fd, offset)
        except OSError:
            pass

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def become_stderr(self) -> None:
        """Standard output and error of this process go to the file: what the interpreter itself has to say."""
        self.prepare(0)
        os.dup2(self._fd, 1)
        os.dup2(self._fd, 2)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            return os.open(self.path, flags, 0o600)


class OwnLog:
    """What the keeper has to say. Never raises: a full disk must not end it."""

    def __init__(self, path: str) -> None:
        self._file = LogFile(path)
        self._inode = 0

    def say(self, words: str) -> None:
        now = stamp(time.time())
        block = b"".join(now + line.encode("utf-8", "replace") + b"\n" for line in words.splitlines())
        try:
            inode, _ = self._file.prepare(len(block))
            if inode != self._inode:
                self._file.become_stderr()
                self._inode = inode
            self._file.append(block)
        except OSError:
            pass

    def say_exception(self, during: str) -> None:
        """The exception being handled, with its traceback in short."""
        kind, error, trace = sys.exc_info()
        lines = [f"{during}: {kind.__name__ if kind else ''}: {error}"]
        while trace is not None:
            code = trace.tb_frame.f_code
            lines.append(f"  {code.co_filename}:{trace.tb_lineno} in {code.co_name}")
            trace = trace.tb_next
        self.say("\n".join(lines))
