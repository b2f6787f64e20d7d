"""An Envoy that confirms what it is given, after as long as it is told to take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shoal.mesh.snapshot import Snapshot
from shoal.model import event as ev
from shoal.ports import Clock, Inbox


class FakeSink:
    """Implements `ports.SnapshotSink`. `routes_to` are the replicas that its Envoy would send requests to now; while
    `connected()` says no, nothing is applied. While `refuses()` gives words, the old snapshot stays and is retried each
    second."""

    def __init__(
        self,
        inbox: Inbox,
        clock: Clock,
        *,
        lag_s: Callable[[], float] = lambda: 0.002,
        connected: Callable[[], bool] = lambda: True,
        refuses: Callable[[], str] = lambda: "",
        seen: Callable[[Snapshot], None] = lambda snapshot: None,
    ) -> None:
        self.routes_to: frozenset[str] = frozenset()
        self.newest: Snapshot | None = None
        self._inbox = inbox
        self._clock = clock
        self._lag_s = lag_s
        self._connected = connected
        self._refuses = refuses
        self._seen = seen
        self._changed = asyncio.Event()

    def publish(self, snapshot: Snapshot) -> None:
        self._seen(snapshot)
        self.newest = snapshot
        self._changed.set()

    def reconnect(self) -> None:
        """Envoy came (back): it is told everything again."""
        self._changed.set()

    async def run(self) -> None:
        """Applies the newest snapshot, again and again, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.sleep(self._lag_s())
            if self.newest is None or not self._connected():
                continue
            if words := self._refuses():
                now = self._clock.now()
                await self._inbox.put(ev.ResourceRejected(at=now, resource="web", kind="endpoints", message=words))
                await asyncio.sleep(1)
                self._changed.set()
                continue
            applied = self.newest
            self.routes_to = applied.replicas
            await self._inbox.put(
                ev.SnapshotApplied(at=self._clock.now(), version=applied.version, replicas=applied.replicas)
            )
