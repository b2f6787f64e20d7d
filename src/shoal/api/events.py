"""The journal as a stream: what was, then what comes, without a gap and without a duplicate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from shoal.api.plane import FeedLike
from shoal.errors import EngineError
from shoal.ports import JournalEntry, Store
from shoal.store.promises import owner

KEEPALIVE_S = 15.0
PAGE = 500


async def entries(
    store: Store, feed: FeedLike, *, after: int, subject: str | None, follow: bool, closing: asyncio.Event
) -> AsyncGenerator[Sequence[JournalEntry]]:
    """Batches of entries, oldest first; an empty one keeps the connection alive. Ends when `closing` is set, or at the
    journal's end unless `follow`.

    `after`: as of `Store.journal`. One that is greater than any sequence (the state was started over) means from now
    on.
    """
    if not follow:
        for page in _past(_Cursor(store, after), store, subject):
            yield page
        return
    cursor: _Cursor | None = None
    while not closing.is_set():
        try:
            # Subscribed before the past is read, so that what comes in between is in the feed.
            async with feed.subscribe() as live, aclosing(_kept_alive(live, closing)) as coming:
                cursor = cursor or _Cursor(store, after)
                for page in _past(cursor, store, subject):
                    yield page
                async for entry in coming:
                    if entry is None:
                        yield ()
                    elif entry.sequence == cursor.at + 1:
                        cursor.at = entry.sequence
                        if subject is None or subject in (entry.subject, owner(entry.subject)):
                            yield (entry,)
                    elif entry.sequence > cursor.at:
                        for page in _past(cursor, store, subject):
                            yield page
        except EngineError:
            continue  # this reader was too slow for the feed; what it missed is in the store
        return


class _Cursor:
    """The sequence up to which all is told."""

    def __init__(self, store: Store, after: int) -> None:
        last = store.journal(after=-1)
        self.newest = last[-1].sequence if last else 0
        self.at = min(after, self.newest)
        """Negative: the last so many, and nothing is told yet."""


def _past(cursor: _Cursor, store: Store, subject: str | None) -> Iterator[Sequence[JournalEntry]]:
    """Pages of the store from the cursor on, which moves along. No entry comes between two pages unseen: nothing is
    awaited but the reader, and the last page is the one that is not full."""
    if cursor.at < 0:
        page = store.journal(after=cursor.at, limit=-cursor.at, subject=subject)
        cursor.at = cursor.newest
        if page:
            yield page
    while True:
        last = store.journal(after=-1)
        page = store.journal(after=cursor.at, limit=PAGE, subject=subject)
        full = len(page) == PAGE
        cursor.at = page[-1].sequence if full else max(cursor.at, last[-1].sequence if last else 0)
        if page:
            yield page
        if not full:
            return


async def _kept_alive(live: AsyncIterator[JournalEntry], closing: asyncio.Event) -> AsyncGenerator[JournalEntry | None]:
    """The feed's entries, None for every 15 s without one, until `closing`."""
    closed = asyncio.ensure_future(closing.wait())
    pending: asyncio.Future[JournalEntry] | None = None
    try:
        while True:
            # Not wait_for: its time-out would cancel the feed's iterator, and that would be its end.
            pending = pending or asyncio.ensure_future(anext(live))
            either: set[asyncio.Future[Any]] = {pending, closed}
            done, _ = await asyncio.wait(either, timeout=KEEPALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            if closed in done:
                return
            if pending in done:
                entry, pending = pending.result(), None
                yield entry
            else:
                yield None
    except StopAsyncIteration:
        return
    finally:
        closed.cancel()
        if pending is not None:
            pending.cancel()
