"""A meter of draining replicas whose counts are told to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from shoal.model.event import RequestsUnderWay
from shoal.ports import Clock, Drained, Inbox

LOOK_S = 0.1


class FakeDrains:
    """Implements `ports.DrainMeter`. `under_way` says how many requests a replica has; None: it cannot be said."""

    def __init__(
        self, inbox: Inbox, clock: Clock, under_way: Callable[[Drained], int | None] = lambda drained: 0
    ) -> None:
        self.watched: frozenset[Drained] = frozenset()
        self._inbox = inbox
        self._clock = clock
        self._under_way = under_way
        self._changed = asyncio.Event()

    def watch(self, replicas: Collection[Drained]) -> None:
        wanted = frozenset(replicas)
        if wanted != self.watched:
            self.watched = wanted
            self._changed.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self._changed.clear()
            if not self.watched:
                await self._changed.wait()
                continue
            asked = ((one.replica, self._under_way(one)) for one in sorted(self.watched, key=lambda one: one.replica))
            counts = tuple((name, count) for name, count in asked if count is not None)
            if counts:
                await self._inbox.put(RequestsUnderWay(at=self._clock.now(), counts=counts))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()
