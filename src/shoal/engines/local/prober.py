"""Probes every running replica, and tells the control loop what changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from shoal.engines.local.probe_budget import Budget
from shoal.engines.local.probed import Probed as Probed
from shoal.engines.local.watch import Put, Watch

COMMANDS_AT_ONCE = 4
"""Probes by command that run at the same time, of all replicas: each is a process. The others wait for their turn, and
that is not part of their time."""


class Prober:
    """One watch a replica. `start` and `stop` return at once; `close` ends them all."""

    def __init__(self, put: Put, *, now: Callable[[], float] = time.time) -> None:
        self._put = put
        self._now = now
        self._budget = Budget()
        self._commands = asyncio.Semaphore(COMMANDS_AT_ONCE)
        self._tasks: dict[str, tuple[int, asyncio.Task[None]]] = {}

    @property
    def asked(self) -> int:
        """Questions so far."""
        return self._budget.asked

    def start(self, probed: Probed) -> None:
        """Does nothing when this attempt is probed already."""
        running = self._tasks.get(probed.replica)
        if running is not None and running[0] == probed.attempt and not running[1].done():
            return
        self.stop(probed.replica)
        watch = Watch(probed, self._put, self._now, budget=self._budget, commands=self._commands)
        self._tasks[probed.replica] = (probed.attempt, asyncio.create_task(watch.run(), name=f"probe {probed.replica}"))

    def stop(self, replica: str) -> None:
        running = self._tasks.pop(replica, None)
        if running is not None:
            running[1].cancel()

    async def close(self) -> None:
        tasks = [task for _, task in self._tasks.values()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
