"""Events that are not lost: written in the transaction of the data that they tell of, published afterwards.

    outbox = Outbox("product-service")

    async with AsyncSession(engine) as session, session.begin():
        product.price_minor = 1200
        await outbox.add(session, type="product.changed", subject=str(product.id), data={"price_minor": 1200})

    async with Relay(outbox, engine):      # in the lifespan of the application, in each replica
        ...

One relay of a service works at a time, whoever holds the lock in the database. An event is published at least once,
and those of one subject in the order of their transactions. What is confirmed by JetStream is deleted from the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import MetaData, delete, event, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from shoal.sdk import events, streams, tables

BATCH = 200
POLL_S = 0.5
"""How soon an event is seen that another replica has written."""
_LOCK_AGAIN_S = 1.0
_log = logging.getLogger("shoal.sdk.outbox")


class Outbox:
    """Of the service `source`. `metadata`: that of its models, where its table should be declared with them."""

    def __init__(self, source: str, *, metadata: MetaData | None = None) -> None:
        events.check_source(source)
        self.source = source
        self.table = tables.outbox(metadata if metadata is not None else MetaData())
        self._written = asyncio.Event()

    async def add(
        self,
        session: AsyncSession | AsyncConnection,
        *,
        type: str,  # noqa: A002 - CloudEvents' own word
        subject: str,
        data: Any,
    ) -> events.Event:
        """Becomes true with the caller's transaction, and with it alone. ValueError: see `events.new`."""
        made = events.new(self.source, type, subject, data)
        if isinstance(session, AsyncSession):
            # What the event tells of is locked before the event has its number: of two changes of a row, the event of
            # the first comes first. SQLAlchemy 2.0 would write the row at the commit, after the event.
            await session.flush()
        row = {"event_id": made.id, "subject": subject, "event": made.to_json(), "created_at": time.time()}
        await session.execute(insert(self.table).values(row))
        if isinstance(session, AsyncSession):
            event.listen(session.sync_session, "after_commit", self._nudge, once=True)
        return made

    def _nudge(self, _: object) -> None:
        self._written.set()

    async def written(self, within_s: float) -> None:
        """Until this process has committed an event, or the time has passed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._written.wait(), within_s)
        self._written.clear()


class _Row(NamedTuple):
    id: int
    event_id: str
    subject: str
    event: str


class Relay(streams.Background):
    """Publishes what is in the outbox while its `async with` block runs. NATS or the database may be away meanwhile,
    also at the beginning: nothing is lost and nothing waits for it. `nats_url`: default is `NATS_URL`."""

    def __init__(
        self, outbox: Outbox, engine: AsyncEngine, nats_url: str | None = None, *, poll_s: float = POLL_S
    ) -> None:
        self._outbox, self._engine, self._poll_s = outbox, engine, poll_s
        self._url = streams.nats_url(nats_url)

    async def __aenter__(self) -> Relay:
        if self._url:
            self._start(self._publish_all, _log, f"events of {self._outbox.source} wait")
        else:
            _log.warning("NATS_URL is not set; events stay in the outbox: write 'uses: [nats]' in the app file")
        return self

    async def _publish_all(self) -> None:
        async with _leading(self._engine, self._outbox.source) as connection:
            if connection is None:
                await asyncio.sleep(_LOCK_AGAIN_S)
                return
            async with streams.connected(self._url, f"relay of {self._outbox.source}") as to:
                while not to.client.is_closed:
                    rows = await self._next(connection)
                    for wave in _waves(rows):
                        await asyncio.gather(*(self._publish(to, row) for row in wave))
                        await self._forget(connection, [row.id for row in wave])
                    if len(rows) < BATCH:
                        await self._outbox.written(self._poll_s)
                raise ConnectionError("the connection to NATS has ended")

    async def _next(self, connection: AsyncConnection) -> list[_Row]:
        table = self._outbox.table
        wanted = select(table.c.id, table.c.event_id, table.c.subject, table.c.event).order_by(table.c.id).limit(BATCH)
        async with connection.begin():
            return [_Row(*row) for row in await connection.execute(wanted)]

    async def _publish(self, to: streams.Streams, row: _Row) -> None:
        sent = events.Event.from_json(row.event)
        # The id lets JetStream drop what is sent twice within its window; later ones are dropped by the inbox.
        headers = {"Nats-Msg-Id": row.event_id, "Content-Type": "application/cloudevents+json"}
        await to.js.publish(sent.channel, row.event.encode(), stream=streams.EVENTS, headers=headers)

    async def _forget(self, connection: AsyncConnection, ids: Sequence[int]) -> None:
        async with connection.begin():
            await connection.execute(delete(self._outbox.table).where(self._outbox.table.c.id.in_(ids)))


def _waves(rows: Iterable[_Row]) -> list[list[_Row]]:
    """Each has one event of a subject at the most, so that those of one subject follow one another."""
    waves: list[list[_Row]] = []
    turn: dict[str, int] = {}
    for row in rows:
        at = turn.get(row.subject, 0)
        turn[row.subject] = at + 1
        if at == len(waves):
            waves.append([])
        waves[at].append(row)
    return waves


@contextlib.asynccontextmanager
async def _leading(engine: AsyncEngine, source: str) -> AsyncIterator[AsyncConnection | None]:
    """A connection of the one relay that works, for as long as it lives; None: another one does."""
    if engine.dialect.name == "sqlite":
        with _file_lock(engine.url.database or "", source) as held:
            if not held:
                yield None
                return
            async with engine.connect() as connection:
                yield connection
        return
    if engine.dialect.name != "postgresql":
        raise NotImplementedError(f"an outbox is kept in PostgreSQL or SQLite, not in {engine.dialect.name}")
    key = tables.lock_key(f"shoal relay {source}")
    async with engine.connect() as connection:
        # It belongs to the session: gone when this process dies, or the server.
        async with connection.begin():
            held = (await connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key})).scalar()
        if not held:
            yield None
            return
        try:
            yield connection
        finally:
            # Back to the pool it must not go with the lock.
            await connection.invalidate()


@contextlib.contextmanager
def _file_lock(database: str, source: str) -> Any:
    if database in ("", ":memory:"):
        yield True
        return
    descriptor = os.open(f"{database}.{source}.relay", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
