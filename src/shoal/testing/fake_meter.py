"""A meter whose counters are told to it."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import replace

from shoal.model.event import TrafficSampled
from shoal.model.signals import LATENCY_BOUNDS_MS, Traffic
from shoal.ports import Clock, Inbox

SAMPLE_S = 0.5


class FakeMeter:
    """Implements `ports.TrafficMeter`."""

    def __init__(self, inbox: Inbox, clock: Clock) -> None:
        self.inbox = inbox
        self.watched: frozenset[str] = frozenset()
        self.counters: dict[tuple[str, int], Traffic] = {}
        self._clock = clock

    def watch(self, services: Collection[str]) -> None:
        self.watched = frozenset(services)

    def answered(self, service: str, revision: int, requests: int, *, errors: int = 0, ms: float = 10.0) -> None:
        """So many more requests, all in this time."""
        key = service, revision
        now = self.counters.get(key) or Traffic(service=service, revision=revision)
        latency = list(now.latency)
        latency[bisect_left(LATENCY_BOUNDS_MS, ms)] += requests
        self.counters[key] = replace(
            now, requests=now.requests + requests, errors=now.errors + errors, latency=tuple(latency)
        )

    def sample(self) -> TrafficSampled:
        told = (traffic for key, traffic in sorted(self.counters.items()) if key[0] in self.watched)
        return TrafficSampled(at=self._clock.now(), samples=tuple(told))

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            if self.watched:
                await self.inbox.put(self.sample())
            await asyncio.sleep(SAMPLE_S)
