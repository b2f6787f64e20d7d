"""A lock between processes that the kernel frees when its holder dies."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from shoal.errors import EngineError

WAIT_S_MAX = 1800.0
_LOOK_S = 0.05


class FileLock:
    """One `flock` on a file that stays where it is: unlinking it would let two hold "the" lock at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @asynccontextmanager
    async def held(self, waits: Callable[[], Awaitable[None]]) -> AsyncIterator[int]:
        """`waits` is called once when somebody else holds it. Gives its descriptor: a process that inherits it holds
        the lock too. EngineError: it was not free in WAIT_S_MAX."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EngineError(f"{self._path} cannot be opened: {error.strerror}") from error
        try:
            if not _try(fd):
                await waits()
                # Polled: a blocking flock would hold a thread that nobody can cancel.
                try:
                    async with asyncio.timeout(WAIT_S_MAX):
                        while not _try(fd):  # noqa: ASYNC110 - the other is another process
                            await asyncio.sleep(_LOOK_S)
                except TimeoutError:
                    raise EngineError(f"{self._path} was held by another for {WAIT_S_MAX / 60:g} min") from None
            yield fd
        finally:
            os.close(fd)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
