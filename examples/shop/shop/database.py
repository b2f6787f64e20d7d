"""A service's own SQLite file, shared by its replicas.

It lies in `SHOAL_DATA_DIR`, which belongs to the service and outlives every replica and revision of it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def data_folder() -> Path:
    """Where the service keeps what must last; `./data` when it runs without Shoal. Created when missing."""
    folder = Path(os.environ.get("SHOAL_DATA_DIR", "data"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Database:
    """One connection, used by one thread at a time; other replicas have their own to the same file."""

    def __init__(self, path: Path, schema: str) -> None:
        """Creates what is missing: `schema` is SQL that may run again and again (`CREATE TABLE IF NOT EXISTS`)."""
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        self._connection.row_factory = sqlite3.Row
        # Three replicas start at once. Going over to WAL does not wait its turn as other statements do, so they queue.
        with path.with_suffix(".lock").open("w") as queue:
            fcntl.flock(queue, fcntl.LOCK_EX)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.executescript(schema)
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA foreign_keys = ON")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """For one statement, or several that need not agree with each other."""
        with self._lock:
            yield self._connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """All of the block, or none of it. Waits up to 5 s for other replicas' writes."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self._connection.close()
