"""`Idempotency-Key`: a request that is sent twice is done once, and answered twice alike.

    async with AsyncSession(engine) as session, session.begin():
        answer = await store.once(session, key, fingerprint=await request.body(), work=make_cart)

The key is taken and the answer kept in the transaction that does the work: there is no moment with one and without
the other. The second of two that come at once waits for the first.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import MetaData, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shoal.sdk import tables
from shoal.sdk.problems import Problem

KEY_LENGTH_MAX = 255


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: str


class IdempotencyStore:
    """`metadata`: that of the service's models, where the table should be declared with them."""

    def __init__(self, metadata: MetaData | None = None) -> None:
        self._table = tables.idempotency(metadata if metadata is not None else MetaData())

    async def once(
        self, session: AsyncSession, key: str, *, fingerprint: bytes | str, work: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """The answer of `work`, or the kept one when `key` was seen before. Call it in a transaction, before anything
        else in it. What `work` raises is kept by nobody. Problem 422: the key came with another request; 400: it is
        too long."""
        if not 1 <= len(key) <= KEY_LENGTH_MAX or "\x00" in key:
            raise Problem(400, "Bad Idempotency-Key", detail=f"it has 1 to {KEY_LENGTH_MAX} characters")
        raw = fingerprint.encode() if isinstance(fingerprint, str) else fingerprint
        digest = hashlib.sha256(raw).hexdigest()
        kept = await self._take(session, key, digest)
        if kept is not None:
            return kept
        answer = await work()
        row = {"status": answer.status, "body": answer.body}
        await session.execute(update(self._table).where(self._table.c.key == key).values(row))
        return answer

    async def forget(self, session: AsyncSession, *, older_than_s: float) -> None:
        old = self._table.c.created_at < time.time() - older_than_s
        await session.execute(delete(self._table).where(old))

    async def _take(self, session: AsyncSession, key: str, digest: str) -> Answer | None:
        table = self._table
        if await tables.claim(session, table, {"key": key, "fingerprint": digest, "created_at": time.time()}):
            return None
        wanted = select(table.c.fingerprint, table.c.status, table.c.body).where(table.c.key == key)
        known = (await session.execute(wanted)).one()
        if known.fingerprint != digest:
            raise Problem(422, "Idempotency-Key reused", detail="this key came with another request before")
        return Answer(known.status, known.body)
