"""The store on a disk: one SQLite file, one transaction a call."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from shoal.errors import StoreError
from shoal.model.replica import Replica
from shoal.model.world import Desired, Revision
from shoal.ports import JournalEntry
from shoal.spec import wire
from shoal.store import schema
from shoal.store.failures import explained
from shoal.store.promises import EDGES, JOURNAL_KEPT, clean, data_as_json, edges_used_up, owner, refuse_another

T = TypeVar("T")

BUSY_TIMEOUT_S = 2.0
"""How long a call waits for another process (someone's `sqlite3 state.db`) before it is an error."""

PROBLEMS_KEPT = 100

_JOURNAL = (
    "SELECT sequence, at, kind, subject, message, data FROM journal "
    "WHERE sequence > :after {which} ORDER BY sequence {order} LIMIT :count"
)

_log = logging.getLogger("shoal.store")


class SqliteStore:
    """Implements `ports.Store` on the file at `path` (0600, made when missing). One process writes, see
    `store.lock`; its threads may share a store.

    A killed process leaves every transaction whole or undone. A power cut too; it may take back the last few changes
    of replicas and lines of the journal, for these are not flushed to the disk one by one: after a power cut no replica
    runs. What people asked for, revisions, and the numbers given to replicas and edges are flushed before a call
    returns.
    """

    def __init__(self, path: Path, *, journal_kept: int = JOURNAL_KEPT) -> None:
        """Opens or makes the file, and brings its schema up to date. Raises StoreError."""
        self._path = path
        self._journal_kept = journal_kept
        self._trim_every = max(1, min(1000, journal_kept // 10))
        self._lock = threading.RLock()
        self._flushed: bool | None = None
        self.problems: list[str] = []
        """Rows that could not be read and were left out, in words; at most 100."""
        with explained(path):
            self._connection = _connect(path)
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                schema.migrate(self._connection, name=str(path))
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def load_desired(self) -> Desired | None:
        with self._reading() as connection:
            row = connection.execute("SELECT body FROM desired").fetchone()
        if row is None:
            return None
        try:
            return wire.decode(Desired, row[0])
        except ValidationError as error:
            # Leaving it out would mean "nothing was ever deployed", and would stop what runs.
            raise StoreError(
                f"what {self._path} says was deployed cannot be read: {_first(error)}",
                way_out=f"run the version of Shoal that wrote it, or move {self._path.name} away and deploy again",
            ) from error

    def save_desired(self, desired: Desired) -> None:
        body = _encode(desired, "the app")
        with self._writing(flush=True) as connection:
            connection.execute("INSERT OR REPLACE INTO desired (one, body) VALUES (1, ?)", (body,))

    def revisions(self, service: str) -> Sequence[Revision]:
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT number, body FROM revisions WHERE service = ? ORDER BY number", (service,)
            ).fetchall()
        found = (self._read(Revision, body, f"revision {number} of service '{service}'") for number, body in rows)
        return [revision for revision in found if revision]

    def add_revision(self, revision: Revision) -> None:
        key = (revision.service.name, revision.number)
        body = _encode(revision, f"service '{revision.service.name}'")
        with self._writing(flush=True) as connection:
            known = connection.execute("SELECT digest FROM revisions WHERE service = ? AND number = ?", key).fetchone()
            if known:
                refuse_another(known[0], revision)
            else:
                connection.execute(
                    "INSERT INTO revisions (service, number, digest, body) VALUES (?, ?, ?, ?)",
                    (*key, revision.digest, body),
                )

    def every_revision(self) -> dict[str, Sequence[Revision]]:
        with self._reading() as connection:
            names = connection.execute("SELECT DISTINCT service FROM revisions ORDER BY service").fetchall()
        return {name: self.revisions(name) for (name,) in names}

    def delete_revisions(self, service: str, numbers: Collection[int]) -> None:
        with self._writing(flush=False) as connection:
            connection.executemany(
                "DELETE FROM revisions WHERE service = ? AND number = ?", [(service, number) for number in numbers]
            )

    def load_replicas(self) -> Sequence[Replica]:
        with self._reading() as connection:
            rows = connection.execute("SELECT id, body FROM replicas ORDER BY service, number").fetchall()
        found = (self._read(Replica, body, f"replica {name}") for name, body in rows)
        return [replica for replica in found if replica]

    def save_replica(self, replica: Replica) -> None:
        body = _encode(replica, f"replica {replica.id}")
        after = (replica.service, replica.number + 1)
        with self._lock:
            with self._reading() as connection:
                known = connection.execute("SELECT 1 FROM numbers WHERE service = ? AND next >= ?", after).fetchone()
            with self._writing(flush=not known) as connection:
                if not known:
                    connection.execute(
                        "INSERT INTO numbers (service, next) VALUES (?, ?) "
                        "ON CONFLICT (service) DO UPDATE SET next = max(next, excluded.next)",
                        after,
                    )
                connection.execute(
                    "INSERT OR REPLACE INTO replicas (id, service, number, body) VALUES (?, ?, ?, ?)",
                    (replica.id, replica.service, replica.number, body),
                )

    def delete_replica(self, replica: str) -> None:
        with self._writing(flush=False) as connection:
            connection.execute("DELETE FROM replicas WHERE id = ?", (replica,))

    def next_numbers(self) -> dict[str, int]:
        with self._reading() as connection:
            return dict(connection.execute("SELECT service, next FROM numbers").fetchall())

    def lease_edges(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        leased: dict[tuple[str, str], int] = {}
        with self._lock:
            with self._reading() as connection:
                for pair in pairs:
                    row = connection.execute(
                        "SELECT number FROM edges WHERE caller = ? AND callee = ?", pair
                    ).fetchone()
                    if row:
                        leased[pair] = row[0]
            new = [pair for pair in dict.fromkeys(pairs) if pair not in leased]
            if new:
                with self._writing(flush=True) as connection:
                    last = connection.execute("SELECT max(number) FROM edges").fetchone()[0]
                    first = EDGES.start if last is None else last + 1
                    if first + len(new) > EDGES.stop:
                        raise edges_used_up(len(new))
                    leased |= {pair: first + index for index, pair in enumerate(new)}
                    connection.executemany(
                        "INSERT INTO edges (caller, callee, number) VALUES (?, ?, ?)",
                        [(*pair, leased[pair]) for pair in new],
                    )
        return {pair: leased[pair] for pair in pairs}

    def get(self, key: str) -> str | None:
        with self._reading() as connection:
            row = connection.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def put(self, key: str, value: str) -> None:
        with self._writing(flush=True) as connection:
            connection.execute("INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)", (key, value))

    def append(self, at: float, kind: str, subject: str, message: str, data: dict[str, object]) -> JournalEntry:
        subject, message, plain = clean(subject), clean(message), data_as_json(data)
        with self._writing(flush=False) as connection:
            sequence = connection.execute(
                "INSERT INTO journal (at, kind, subject, owner, message, data) VALUES (?, ?, ?, ?, ?, ?)",
                (at, kind, subject, owner(subject), message, plain),
            ).lastrowid
            assert sequence is not None
            if sequence % self._trim_every == 0:
                connection.execute("DELETE FROM journal WHERE sequence <= ?", (sequence - self._journal_kept,))
        return JournalEntry(
            sequence=sequence, at=float(at), kind=kind, subject=subject, message=message, data=json.loads(plain)
        )

    def journal(self, *, after: int = 0, limit: int = 1000, subject: str | None = None) -> Sequence[JournalEntry]:
        newest_first = after < 0
        count = max(0, min(-after, limit) if newest_first else limit)
        order = "DESC" if newest_first else "ASC"
        with self._reading() as connection:
            last = connection.execute("SELECT max(sequence) FROM journal").fetchone()[0] or 0
            # The disk holds up to a batch more than is promised.
            values = {"after": max(after, last - self._journal_kept), "subject": subject, "count": count}
            if subject is None:
                query = _JOURNAL.format(which="", order=order)
            else:
                # Two ordered walks of an index each, where an OR would collect and sort all that match.
                own = _JOURNAL.format(which="AND subject = :subject", order=order)
                of_replicas = _JOURNAL.format(which="AND owner = :subject", order=order)
                query = f"SELECT * FROM ({own}) UNION ALL SELECT * FROM ({of_replicas}) ORDER BY 1 {order} LIMIT :count"
            rows = connection.execute(query, values).fetchall()
        entries = (self._entry(row) for row in (reversed(rows) if newest_first else rows))
        return [entry for entry in entries if entry]

    def _entry(self, row: tuple[int, float, str, str, str, str]) -> JournalEntry | None:
        sequence, at, kind, subject, message, data = row
        try:
            plain = json.loads(data)
        except ValueError as error:
            self._complain(f"journal entry {sequence}", str(error))
            return None
        return JournalEntry(sequence=sequence, at=at, kind=kind, subject=subject, message=message, data=plain)

    def _read(self, kind: type[T], body: str, what: str) -> T | None:
        """A row that another version wrote, or that rotted, must not keep the daemon from starting."""
        try:
            return wire.decode(kind, body)
        except ValidationError as error:
            self._complain(what, _first(error))
            return None

    def _complain(self, what: str, why: str) -> None:
        problem = f"{what} in {self._path.name} cannot be read and is left out: {why}"
        if problem not in self.problems and len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(problem)
            _log.warning("%s", problem)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, explained(self._path):
            yield self._connection

    @contextmanager
    def _writing(self, *, flush: bool) -> Iterator[sqlite3.Connection]:
        """One transaction. `flush`: on the disk when it returns, and with it all that was written before."""
        with self._lock, explained(self._path):
            connection = self._connection
            if flush is not self._flushed:
                connection.execute(f"PRAGMA synchronous = {'FULL' if flush else 'NORMAL'}")
                self._flushed = flush
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # A full disk may have ended the transaction already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


def _connect(path: Path) -> sqlite3.Connection:
    # SQLite would make it 0644; its companions (-wal, -shm) take the mode of the file.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(
            f"cannot open {path}: {error.strerror}",
            way_out="check that its folder exists, is yours, and is not on a read-only or full disk",
        ) from error
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def _encode(value: object, what: str) -> str:
    try:
        return wire.encode(value)
    except PydanticSerializationError as error:
        raise StoreError(
            f"{what} holds text that is not valid Unicode ({error})",
            way_out="look for a folder or a variable with bytes that are not UTF-8, and rename it",
        ) from error


def _first(error: ValidationError) -> str:
    """`targets.cart.revision.number: Input should be a valid integer`"""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
