"""How many requests replicas that leave still have, by asking the Envoys again and again while any does."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from shoal.errors import EngineError
from shoal.model.event import RequestsUnderWay
from shoal.ports import Clock, Drained, Inbox
from shoal.xds.admin import admin_get, requests_under_way

LOOK_S = 0.1
PATIENCE = 10
"""Its answer tells of every endpoint there is: with a thousand services that takes long, and is then asked for so many
times more rarely than it takes."""

_ACTIVE = re.compile(r"^[^:\n]+(?::[^:\n]+)*::(.+)::rq_active::([0-9]+)$", re.MULTILINE)


class Drains:
    """Implements `ports.DrainMeter`. `sockets`: the admin sockets of the Envoys, of which any may not be there."""

    def __init__(self, inbox: Inbox, clock: Clock, sockets: Sequence[Path]) -> None:
        self._inbox = inbox
        self._clock = clock
        self._sockets = sockets
        self._replicas: frozenset[Drained] = frozenset()
        self._changed = asyncio.Event()

    def watch(self, replicas: Collection[Drained]) -> None:
        wanted = frozenset(replicas)
        if wanted != self._replicas:
            self._replicas = wanted
            self._changed.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self._changed.clear()
            if not self._replicas:
                await self._changed.wait()
                continue
            at, began = self._clock.now(), time.monotonic()
            counts = await self._count(self._replicas)
            if counts:
                await self._inbox.put(RequestsUnderWay(at=at, counts=tuple(sorted(counts.items()))))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(LOOK_S, PATIENCE * (time.monotonic() - began))):
                    await self._changed.wait()

    async def _count(self, replicas: Collection[Drained]) -> dict[str, int]:
        """An Envoy that says nothing is passed over, unless none says anything."""
        by_address: list[dict[str, int]] = []
        by_service: list[dict[str, int]] = []
        for socket in self._sockets:
            with contextlib.suppress(EngineError):
                if any(one.addresses for one in replicas):
                    by_address.append(active(await admin_get("/clusters", socket)))
                if not all(one.addresses for one in replicas):
                    by_service.append(await requests_under_way(socket))
        counts = {}
        for one in replicas:
            if one.addresses and by_address:
                # One that no Envoy lists as yet, or any more, is not one without requests.
                seen = [found[address] for found in by_address for address in one.addresses if address in found]
                if seen:
                    counts[one.replica] = sum(seen)
            elif not one.addresses and by_service:
                # Where both Envoys are passed through, both count the same requests.
                counts[one.replica] = max(found.get(one.service, 0) for found in by_service)
        return counts


def active(text: str) -> dict[str, int]:
    """address -> requests under way, over all clusters, of what Envoy answers to `/clusters`."""
    found: dict[str, int] = {}
    for address, count in _ACTIVE.findall(text):
        found[address] = found.get(address, 0) + int(count)
    return found
