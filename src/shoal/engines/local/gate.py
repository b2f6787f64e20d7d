"""Holds a daemon at its door: it has loaded its modules and touched nothing.

`shoal up` starts the plane while it still reads the app file, and holds this lock until it knows that the file is
right. The kernel frees the lock when its holder dies. Standard library only.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_S_MAX = 10.0
"""A command line that was stopped (Ctrl-Z) must not keep a plane from coming up."""
_POLL_S = 0.002


@contextmanager
def closed(path: Path) -> Iterator[None]:
    """Nobody passes while the context is open; several may hold it. OSError: the file cannot be opened."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


def wait_until_open(path: Path) -> None:
    """Returns once nobody holds it, or after 10 s. Without a file there is nothing to wait for."""
    deadline = time.monotonic() + WAIT_S_MAX
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_POLL_S)
            else:
                return
    except OSError:
        return  # a disk without locks: then nobody holds it either
    finally:
        os.close(fd)
