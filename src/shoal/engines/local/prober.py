"""Probes every running replica, and tells the control loop what changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shoal.engines.local.probe import READY, Result, Target, look_closer, probe
from shoal.model.event import Event, ProbeFailed, ProbeSucceeded
from shoal.model.replica import Address

PAUSE_S_FIRST = 0.02
PAUSE_GROWTH = 1.5
PAUSE_S = 1.0
"""Between two probes: the first grows to the last, until the replica is ready. By half each time: with doubling, a
replica could have been ready for as long as it took to get there."""
OWNER_PAUSE_S = 0.3
"""A failure is only looked into when the first moments are over: most replicas just boot."""
WORKER_S = 1.0
"""A replica without a port is ready when it has lived this long."""
SUCCESSES_TOLD = 2
"""Successes in a row that are told; the rest would only say that nothing has changed."""

Put = Callable[[Event], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A replica that runs."""

    replica: str
    attempt: int
    pid: int
    address: Address | None
    """None: a worker."""
    health: str | None


class Prober:
    """One task a replica. `start` and `stop` return at once; `close` ends them all."""

    def __init__(self, put: Put, *, now: Callable[[], float] = time.time) -> None:
        self._put = put
        self._now = now
        self._tasks: dict[str, tuple[int, asyncio.Task[None]]] = {}

    def start(self, probed: Probed) -> None:
        """Does nothing when this attempt is probed already."""
        running = self._tasks.get(probed.replica)
        if running is not None and running[0] == probed.attempt and not running[1].done():
            return
        self.stop(probed.replica)
        work = self._worker(probed) if probed.address is None else self._server(probed, probed.address)
        self._tasks[probed.replica] = (probed.attempt, asyncio.create_task(work, name=f"probe {probed.replica}"))

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

    async def _worker(self, probed: Probed) -> None:
        await asyncio.sleep(WORKER_S)
        await self._tell(probed, READY)

    async def _server(self, probed: Probed, address: Address) -> None:
        target = Target(address=address, health=probed.health, session=probed.pid)
        successes, pause_s, told = 0, PAUSE_S_FIRST, ""
        while True:
            result = await probe(target)
            if successes < SUCCESSES_TOLD and (result.ready or pause_s >= OWNER_PAUSE_S):
                result = await look_closer(target, result)
            if result.ready:
                successes += 1
                if successes <= SUCCESSES_TOLD:
                    await self._tell(probed, result)
                pause_s = PAUSE_S
            else:
                # While it boots, the same words again and again are no news.
                if pause_s >= PAUSE_S or result.detail != told:
                    await self._tell(probed, result)
                successes, told = 0, result.detail
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * PAUSE_GROWTH, PAUSE_S)

    async def _tell(self, probed: Probed, result: Result) -> None:
        now = self._now()
        if result.ready:
            await self._put(ProbeSucceeded(at=now, replica=probed.replica, attempt=probed.attempt))
        else:
            await self._put(ProbeFailed(at=now, replica=probed.replica, attempt=probed.attempt, detail=result.detail))
