"""One daemon a state folder: a lock that the kernel frees when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from shoal.errors import ConflictError, StoreError


class StateLock:
    """Holds `path` (`.shoal/daemon.lock`) locked while the context is open. The file stays, with the holder's pid in
    it: removing a lock file lets two processes lock two files of the same name.

    Entering raises ConflictError, which names the holder's pid, when another process holds it, and StoreError when the
    file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def __enter__(self) -> StateLock:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreError(
                f"cannot open the lock {self._path}: {error.strerror}",
                way_out="check that the folder exists, is yours, and is not on a read-only disk",
            ) from error
        try:
            self._take(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return self

    def _take(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 32, 0).strip().decode("ascii", "replace")
            raise ConflictError(
                f"another process{f' (pid {holder})' if holder else ''} holds {self._path.parent}",
                way_out="talk to it with 'shoal status', or end it with 'shoal down'",
            ) from error
        except OSError as error:
            raise StoreError(
                f"cannot lock {self._path}: {error.strerror}", way_out="keep .shoal on a disk that knows file locks"
            ) from error
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass  # A full disk: the lock holds all the same, only the pid is unknown to others.

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)
