"""The tables, as the steps that lead to them. `PRAGMA user_version` counts the steps that a file has seen.

A step that was released never changes; what is wanted next is a new step at the end. Bodies are JSON of the model
(`spec.wire`); what SQL has to find or to sort by has a column of its own.
"""

from __future__ import annotations

import sqlite3

from shoal.errors import StoreError

STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE desired (one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL)",
        """CREATE TABLE revisions (
            service TEXT NOT NULL, number INTEGER NOT NULL, digest TEXT NOT NULL, body TEXT NOT NULL,
            PRIMARY KEY (service, number)
        ) WITHOUT ROWID""",
        """CREATE TABLE replicas (
            id TEXT PRIMARY KEY, service TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL
        ) WITHOUT ROWID""",
        # Outlives the replicas: a number that was given once is never given again.
        "CREATE TABLE numbers (service TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID",
        """CREATE TABLE edges (
            caller TEXT NOT NULL, callee TEXT NOT NULL, number INTEGER NOT NULL UNIQUE,
            PRIMARY KEY (caller, callee)
        ) WITHOUT ROWID""",
        """CREATE TABLE journal (
            sequence INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, owner TEXT,
            message TEXT NOT NULL, data TEXT NOT NULL
        )""",
        "CREATE INDEX journal_by_subject ON journal (subject)",
        "CREATE INDEX journal_by_owner ON journal (owner) WHERE owner IS NOT NULL",
    ),
)


def migrate(connection: sqlite3.Connection, *, name: str) -> None:
    """Brings a file to the newest schema, one transaction a step: a crash leaves it between two steps, from where the
    next start goes on. `name` is the file's, for the error's words.

    Raises StoreError for a file of a newer Shoal or of something else, sqlite3.Error as it comes.
    """
    version = _version(connection)
    if version > len(STEPS):
        raise StoreError(
            f"{name} was written by a newer Shoal (its schema is {version}, this one knows {len(STEPS)})",
            way_out=f"run that newer version, or start over: shoal down, then move {name} away",
        )
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StoreError(
            f"{name} is a database, and not one of Shoal's", way_out="move it away; Shoal then starts with a new one"
        )
    for number in range(version, len(STEPS)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have been faster while this one waited for the lock.
            if _version(connection) == number:
                for statement in STEPS[number]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
