"""Events that take effect once: each is applied in one transaction with a note that it was.

    inbox = Inbox(engine, name="cart-service")

    @inbox.on("product-service", "product.changed")
    async def product_changed(event: Event, session: AsyncSession) -> None:
        ...                                # in a transaction that is committed when this returns

    async with inbox:                      # in the lifespan of the application, in each replica
        ...

All replicas share one durable consumer of the name of the inbox: each event goes to one of them, in the order in
which it was published, the next one when this one is done. A handler that raises is tried again, and after `tries`
the event becomes a dead letter: it waits in the stream SHOAL_DEAD to be looked at and replayed (`python -m
shoal.sdk.dead`), and the next is taken. While the database is away the inbox waits for it, without counting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import nats
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NothingCame
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError
from sqlalchemy import MetaData, delete, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from shoal.sdk import context, events, streams, tables
from shoal.sdk.events import Event

Handler = Callable[[Event, AsyncSession], Awaitable[None]]
_H = TypeVar("_H", bound=Handler)
ACK_WAIT_S = 5.0
"""After which an event whose replica has died goes to another one; while a handler works, it says so in time."""
_FETCH_S = 2.0
_AGAIN_S = (0.1, 0.3, 1.0, 3.0)
_DEATHS_MAX = 60
"""So often an event is taken up: one that kills its consumer is a dead letter too."""
_STRANGE_S = 0.5
_STRANGE_MAX = 30
"""So often an event without a handler is left to others: a newer revision may know it."""
_REMEMBERED_S = 30 * 24 * 3600
"""How long it is known that an event was applied: longer than the stream keeps it."""
_CLEAN_S = 3600.0
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_log = logging.getLogger("shoal.sdk.inbox")


class Inbox(streams.Background):
    """`name`: of the consumer, usually the service's own. `nats_url`: default is `NATS_URL`. `tries`: of a handler,
    each with `timeout_s` seconds. `in_flight`: how many events are worked on at a time by all replicas; more than 1
    gives up the order. ValueError."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        name: str,
        nats_url: str | None = None,
        tries: int = 5,
        timeout_s: float = 60.0,
        in_flight: int = 1,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"an inbox's name is letters, digits, - and _; not {name!r}")
        if engine.dialect.name not in ("postgresql", "sqlite"):
            raise NotImplementedError(f"an inbox is kept in PostgreSQL or SQLite, not in {engine.dialect.name}")
        self.name = name
        self._engine, self._tries, self._timeout_s, self._in_flight = engine, tries, timeout_s, in_flight
        self._url = streams.nats_url(nats_url)
        self._table = tables.inbox(MetaData())
        self._handlers: dict[str, Handler] = {}
        self._unwanted: set[str] = set()
        """Channels that an older revision had asked for."""
        self._cleaned_at = time.monotonic()

    def on(self, source: str, type: str) -> Callable[[_H], _H]:  # noqa: A002 - CloudEvents' own word
        """Calls the function for each event of `source` of that type; `product.*` and `>` are patterns. ValueError: two
        functions for one pattern."""
        wanted = events.pattern(source, type)
        if wanted in self._handlers:
            raise ValueError(f"inbox {self.name!r} has a handler for {wanted} already")

        def keep(handler: _H) -> _H:
            self._handlers[wanted] = handler
            return handler

        return keep

    async def __aenter__(self) -> Inbox:
        if not self._url:
            _log.warning("NATS_URL is not set; no events come: write 'uses: [nats]' in the app file")
        elif self._handlers:
            self._start(self._consume, _log, f"inbox {self.name} waits")
        return self

    async def apply(self, event: Event) -> bool:
        """Applies one event, as it is done for those from NATS; False: it was applied before. Raises what the handler
        raises, with nothing applied. For tests, and for events that come another way. LookupError: no handler."""
        handler = self._handler(event)
        if handler is None:
            raise LookupError(f"inbox {self.name!r} has no handler for {event.channel}")
        with context.serving(context.of_headers("", event.traceparent, event.tracestate)):
            async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
                row = {"consumer": self.name, "event_id": event.id, "applied_at": time.time()}
                if not await tables.claim(session, self._table, row):
                    return False
                await handler(event, session)
        return True

    async def _consume(self) -> None:
        async with streams.connected(self._url, f"inbox {self.name}") as broker:
            await self._declare(broker)
            pull = await broker.js.pull_subscribe_bind(consumer=self.name, stream=streams.EVENTS)
            while not broker.client.is_closed:
                await self._clean()
                try:
                    found = await pull.fetch(self._in_flight, timeout=_FETCH_S)
                except NothingCame:
                    # That of a consumer which somebody has deleted, too.
                    if not self._handlers.keys() <= await self._subscribed(broker):
                        raise ConnectionError("the subscription is gone") from None
                    continue
                await asyncio.gather(*(self._take(broker, message) for message in found))
            raise ConnectionError("the connection to NATS has ended")

    async def _declare(self, broker: streams.Streams) -> None:
        # Never fewer than there are: an older revision that came back would take events from a newer one for good.
        # And one at a time, by a lock in their database: two that read and write at once would overwrite each other.
        async with self._engine.begin() as connection:
            if self._engine.dialect.name == "postgresql":
                key = tables.lock_key(f"shoal inbox {self.name}")
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            await self._subscribe(broker, await self._subscribed(broker) | self._handlers.keys())
        # It counts the dead letters of this inbox, and reads them for a replay.
        await broker.js.add_consumer(
            streams.DEAD,
            ConsumerConfig(
                durable_name=self.name,
                filter_subject=f"dead.{self.name}",
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_S,
            ),
        )

    async def _subscribed(self, broker: streams.Streams) -> set[str]:
        try:
            config = (await broker.js.consumer_info(streams.EVENTS, self.name)).config
        except NotFoundError:
            return set()
        return set(streams.subjects(config))

    async def _subscribe(self, broker: streams.Streams, subjects: Iterable[str]) -> None:
        await broker.js.add_consumer(
            streams.EVENTS,
            ConsumerConfig(
                durable_name=self.name,
                filter_subjects=sorted(subjects),
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_S,
                max_ack_pending=self._in_flight,
            ),
        )

    async def _take(self, broker: streams.Streams, message: Msg) -> None:
        try:
            event = Event.from_json(message.data)
        except events.MalformedError as error:
            await self._bury(broker, message, error)
            return
        if self._handler(event) is None:
            await self._leave(broker, message, event)
            return
        deliveries = message.metadata.num_delivered
        if deliveries > _DEATHS_MAX:
            await self._bury(broker, message, RuntimeError(f"taken up {deliveries - 1} times, and never answered"))
            return
        beat = asyncio.create_task(_say_alive(message))
        try:
            failure = await self._try(event)
        finally:
            beat.cancel()
        if failure is None:
            await message.ack()
        else:
            await self._bury(broker, message, failure)

    async def _leave(self, broker: streams.Streams, message: Msg, event: Event) -> None:
        """To a newer revision of the service, which has asked for it. When none takes it, it is kept as a dead letter:
        the newer one may be away. Of a type that nobody wanted before, one is not left to others for long."""
        if message.metadata.num_delivered <= (1 if event.channel in self._unwanted else _STRANGE_MAX):
            await message.nak(delay=_STRANGE_S)
            return
        self._unwanted.add(event.channel)
        await self._bury(broker, message, LookupError(f"inbox {self.name!r} has no handler for {event.channel}"))

    async def _try(self, event: Event) -> Exception | None:
        """What the last try has raised; None: the event is applied."""
        failures = 0
        while True:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self.apply(event)
            except Exception as error:
                if not await self._database_answers():
                    await asyncio.sleep(_AGAIN_S[0])
                    continue
                failures += 1
                _log.warning("inbox %s: %s %s: %r (try %d)", self.name, event.type, event.id, error, failures)
                if failures >= self._tries:
                    return error
                await asyncio.sleep(_AGAIN_S[min(failures, len(_AGAIN_S)) - 1])
            else:
                return None

    async def _bury(self, broker: streams.Streams, message: Msg, error: Exception) -> None:
        sequence = message.metadata.sequence.stream
        headers = {
            "Nats-Msg-Id": f"{self.name}.{sequence}.{message.metadata.timestamp.timestamp()}",
            "Shoal-Subject": message.subject,
            "Shoal-Error": re.sub(r"[\r\n]+", " ", repr(error))[:500],
        }
        # What others have sent may be as large as NATS takes, and there are headers now.
        body = message.data[: events.BYTES_MAX]
        await broker.js.publish(f"dead.{self.name}", body, stream=streams.DEAD, headers=headers)
        await message.ack()
        _log.error(
            "inbox %s: %s is a dead letter now: %r; see: python -m shoal.sdk.dead list",
            self.name,
            message.subject,
            error,
        )

    def _handler(self, event: Event) -> Handler | None:
        exact = self._handlers.get(event.channel)
        if exact is not None:
            return exact
        return next(
            (handler for wanted, handler in self._handlers.items() if events.matches(wanted, event.channel)), None
        )

    async def _database_answers(self) -> bool:
        try:
            async with self._engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except (OSError, SQLAlchemyError):
            return False
        return True

    async def _clean(self) -> None:
        if time.monotonic() - self._cleaned_at < _CLEAN_S:
            return
        self._cleaned_at = time.monotonic()
        async with self._engine.begin() as connection:
            await connection.execute(delete(self._table).where(self._table.c.applied_at < time.time() - _REMEMBERED_S))


async def _say_alive(message: Msg) -> None:
    with contextlib.suppress(nats.errors.Error, OSError):
        while True:
            await asyncio.sleep(ACK_WAIT_S / 3)
            await message.in_progress()


__all__ = ["Event", "Inbox"]
