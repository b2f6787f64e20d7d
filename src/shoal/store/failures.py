"""SQLite's errors in words, each with the way out. Nothing is ever repaired or removed: the file is the user's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shoal.errors import StoreError


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns sqlite3.Error into StoreError about the file `path`."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(error, path) from error


def _explain(error: sqlite3.Error, path: Path) -> StoreError:
    start_over = f"restore a copy of it, or start over: shoal down, move {path.name} away, shoal up"
    # The low byte is the kind, the rest its flavour (SQLITE_IOERR_WRITE, SQLITE_BUSY_SNAPSHOT, ...).
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return StoreError(
                f"the disk of {path} is full; nothing was written",
                way_out="make room; the next change is written again without a restart",
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN:
            return StoreError(
                f"{path} cannot be written ({error})",
                way_out="check that the file and its folder are yours and that the disk is not read-only",
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreError(
                f"{path} is damaged ({error}); it was left as it is",
                way_out=start_over,
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError(
                f"another process holds {path} locked",
                way_out="end it (a 'sqlite3' shell? a backup?); nothing is lost, the next change is written again",
            )
        case sqlite3.SQLITE_IOERR:
            return StoreError(
                f"the disk failed while reading or writing {path} ({error})",
                way_out="look for the disk's errors in 'dmesg'; " + start_over,
            )
        case _:
            return StoreError(f"{path} cannot be used ({error})", way_out=start_over)
