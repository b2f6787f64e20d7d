"""`Idempotency-Key`: a POST that is sent twice is done once, and answered twice alike.

Envoy sends such a POST again when the replica that had it dies. The key is looked up and the answer kept in the very
transaction that does the work, so that there is no moment in which one is done without the other.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable

from fastapi import HTTPException

SCHEMA = """
CREATE TABLE IF NOT EXISTS idempotency (key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL);
"""


def once(connection: sqlite3.Connection, key: str | None, request: str, work: Callable[[], str]) -> str:
    """The answer to `request`: of `work`, or the kept one when the key was seen before. Without a key: of `work`.

    Call it inside a write transaction. HTTPException 422: the key was used for a different request.
    """
    if key is None:
        return work()
    fingerprint = hashlib.sha256(request.encode()).hexdigest()
    row = connection.execute("SELECT request, answer FROM idempotency WHERE key = ?", (key,)).fetchone()
    if row is not None:
        if row["request"] != fingerprint:
            raise HTTPException(422, "this Idempotency-Key was used for a different request")
        return str(row["answer"])
    answer = work()
    connection.execute("INSERT INTO idempotency VALUES (?, ?, ?)", (key, fingerprint, answer))
    return answer
