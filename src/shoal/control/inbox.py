"""The one way in: a bounded queue of events."""

from __future__ import annotations

import asyncio

from shoal.model.event import Event

CAPACITY = 10_000
"""A thousand replicas probed each second fill it in ten seconds, should the loop stand still that long."""


class Inbox:
    """Many write, the controller reads. `put` waits while it is full: a slow loop slows its sources, and the memory
    stays bounded."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._queue: asyncio.Queue[Event] = asyncio.Queue(capacity)
        self._nudged = asyncio.Event()

    async def put(self, event: Event) -> None:
        await self._queue.put(event)
        self._nudged.set()

    def nudge(self) -> None:
        """Wakes the reader without an event: what is desired has changed."""
        self._nudged.set()

    async def take(self, timeout_s: float | None) -> list[Event]:
        """All events that wait, oldest first; empty when nothing came within `timeout_s`, or it was nudged."""
        if self._queue.empty() and not self._nudged.is_set():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._nudged.wait()
            except TimeoutError:
                return []
        self._nudged.clear()
        events = []
        while not self._queue.empty():
            events.append(self._queue.get_nowait())
        return events
