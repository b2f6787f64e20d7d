"""Replicas whose mesh network has died with the two processes that held it.

They run, and nobody reaches them any more: their way out of their own networks ended in the one that is gone. Requests
stop being sent to them at once; then they are ended, and start again as after a crash, in the network that is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from shoal.engines.local.tags import ReplicaTag
from shoal.errors import EngineError
from shoal.model.event import ProbeFailed, Warned
from shoal.model.replica import Exit
from shoal.planner.defaults import FAILURES_TO_UNREADY
from shoal.ports import Clock, Inbox

STOP_S = 5.0
"""From the asking to SIGKILL. It serves nobody: there is nothing to finish but files."""
WHY = "its network was lost with the processes that held it"

Ask = Callable[[ReplicaTag, bool], Awaitable[None]]
"""Sends the replica its stop signal, or kills it."""


class Stranded:
    """`ask`: how to end one. Only processes that still run are asked."""

    def __init__(self, inbox: Inbox, clock: Clock, *, ask: Ask) -> None:
        self._inbox = inbox
        self._clock = clock
        self._ask = ask
        self._known: dict[str, ReplicaTag] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, running: Iterable[ReplicaTag], mesh: str) -> list[ReplicaTag]:
        """Of what runs, those that hang on another network than `mesh`, each told of once; ends them."""
        lost = [tag for tag in running if tag.mesh and tag.mesh != mesh and self._known.get(tag.replica) != tag]
        for tag in lost:
            self._known[tag.replica] = tag
            for _ in range(FAILURES_TO_UNREADY):
                failed = ProbeFailed(at=self._clock.now(), replica=tag.replica, attempt=tag.attempt, detail=WHY)
                await self._inbox.put(failed)
        if lost:
            names = ", ".join(sorted(tag.replica for tag in lost))
            message = f"the network of replicas was lost, and made anew; those that were in it start again: {names}"
            await self._inbox.put(Warned(at=self._clock.now(), subject="app", message=message))
        for tag in lost:
            task = asyncio.create_task(self._end(tag), name=f"end {tag.replica}, which has lost its network")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return lost

    def ended(self, tag: ReplicaTag, end: Exit) -> Exit:
        """The end of a replica, with the reason where this is it."""
        if self._known.get(tag.replica) != tag:
            return end
        del self._known[tag.replica]
        return replace(end, error=WHY)

    async def close(self) -> None:
        """Ends our own tasks; touches no process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _end(self, tag: ReplicaTag) -> None:
        try:
            await self._ask(tag, False)
            await asyncio.sleep(STOP_S)
            await self._ask(tag, True)
        except EngineError:
            pass  # no keeper: the next one tells what runs, and it is found again
