"""Events on their way into the control loop, which may be behind: kept, never in the way of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from shoal.model.event import Event
from shoal.ports import Inbox


class Outbox:
    """Holds at most one event a key: a newer one says all that an older one said. So it is bounded by its keys."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._waiting: dict[Hashable, Event] = {}
        self._wake = asyncio.Event()

    def post(self, key: Hashable, event: Event) -> None:
        """Never waits."""
        self._waiting.pop(key, None)  # the newer one also comes later
        self._waiting[key] = event
        self._wake.set()

    async def deliver(self) -> None:
        """Puts them into the inbox, in order, until cancelled; one that is cancelled half-way is kept."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                key, event = next(iter(self._waiting.items()))
                await self._inbox.put(event)
                if self._waiting.get(key) is event:
                    del self._waiting[key]
