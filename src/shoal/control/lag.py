"""What was last read of how far events are behind: read anew when somebody looks and it is old, never by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from shoal.model.app import App, Service
from shoal.model.lag import NOTHING, Lag
from shoal.model.world import Desired
from shoal.ports import Clock, LagReader

_log = logging.getLogger("shoal.lag")
FRESH_S = 3.0
"""So old what is known may be: each database costs a process of 20 ms."""


def unknown(service: Service, lag: Lag) -> Iterator[str]:
    """What could not be read of a service, and why."""
    for use in service.uses:
        if use.name in lag.silent_brokers:
            yield f"how far events are behind is unknown: {use.name}: {lag.silent_brokers[use.name]}"
    if service.name in lag.silent_databases:
        yield f"the outbox of {service.name} is unknown: {lag.silent_databases[service.name]}"


class LagWatch:
    """`close` it in the end."""

    def __init__(self, reader: LagReader, clock: Clock) -> None:
        self._reader, self._clock = reader, clock
        self._known = NOTHING
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    def of(self, desired: Desired | None) -> Lag:
        """What is known of it; nothing of an app that goes down."""
        return NOTHING if desired is None or desired.down else self._known

    async def look(self, desired: Desired | None) -> None:
        """Reads unless what is known is fresh. All who look wait for the same reading, which takes a second at the
        most."""
        if desired is None or desired.down:
            return
        if self._reading is None or self._reading.done():
            if self._read_at is not None and self._clock.now() - self._read_at < FRESH_S:
                return
            self._reading = asyncio.create_task(self._read(desired.app), name="read lag")
        await asyncio.wait([self._reading])

    async def _read(self, app: App) -> None:
        try:
            self._known = await self._reader.read(app)
        except Exception:
            _log.exception("lag cannot be read; this is a defect of Shoal")
            self._known = NOTHING  # rather than what is old
        finally:
            self._read_at = self._clock.now()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
