"""Copies files so that nobody believes half of one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from pathlib import Path

from shoal.errors import EngineError

_BLOCK = 1 << 20
_FICLONE = 0x40049409
_TRIES = 5


class ChangingError(Exception):
    """A file changed each time that it was read, or went."""


def copy_hashed(source: str, target: str, mode: int, times: tuple[int, int]) -> str:
    """Copies a file; the hash of what was copied. A file that changes meanwhile is copied again. Raises ChangingError,
    OSError."""
    for _ in range(_TRIES):
        try:
            reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise ChangingError(source) from error
        try:
            before = os.fstat(reading)
            writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                sha = hashlib.blake2b(digest_size=16)
                while block := os.read(reading, _BLOCK):
                    sha.update(block)
                    _write(writing, block)
                after = os.fstat(reading)
                if _same(before, after):
                    os.fchmod(writing, mode)
                    os.utime(writing, ns=times)
                    return sha.hexdigest()
            finally:
                os.close(writing)
        finally:
            os.close(reading)
    raise ChangingError(source)


def clone(source: str, target: str, mode: int) -> None:
    """A copy of its own, sharing blocks with the source where the file system can do that. Keeps the times. Raises
    OSError."""
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.ioctl(writing, _FICLONE, reading)
            except OSError:
                while block := os.read(reading, _BLOCK):
                    _write(writing, block)
            info = os.fstat(reading)
            os.fchmod(writing, mode)
            os.utime(writing, ns=(info.st_atime_ns, info.st_mtime_ns))
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def remove(folder: Path) -> None:
    """All of it, also what is read-only; what cannot be removed stays."""

    def unlock(function: object, path: str, _: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)  # noqa: PTH101, PTH120
            os.unlink(path)  # noqa: PTH108

    shutil.rmtree(folder, onerror=unlock)


def unwritable(folder: Path, error: OSError, needed: int = 0) -> EngineError:
    """In words; of a full disk, which one it is and what is missing. `needed`: bytes, where they are known."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        room = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path("/"))
        free = shutil.disk_usage(room).free
        wanted = f", {needed / 1e6:,.1f} MB are needed" if needed else ""
        what = "its quota is used up" if error.errno == errno.EDQUOT else "the disk is full"
        return EngineError(
            f"{folder} cannot be written: {what} ({free / 1e6:,.1f} MB free on the disk of {room}{wanted})",
            way_out="make room there, then try again",
        )
    return EngineError(f"{folder} cannot be written: {error.strerror}", way_out=f"see who owns {folder.parent}")


def _write(fd: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(fd, view) :]


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
