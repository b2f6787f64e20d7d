"""Envoy, as one process of the keeper."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from shoal.engines.local import tails
from shoal.engines.local.keeper import unparented
from shoal.engines.local.keeper_client import KeeperError
from shoal.engines.local.keeper_link import KeeperLink, Listing
from shoal.errors import EngineError, ShoalError
from shoal.model.event import ProxyExited, ProxyStarted
from shoal.model.replica import Exit
from shoal.paths import StateFolder
from shoal.ports import Clock, Inbox

NAME = "envoy"
STOP_S = 5.0
"""From SIGTERM to SIGKILL. Envoy ends at once; one that hangs must not hold up `shoal down`."""

ProxyLaunch = Callable[[], tuple[Sequence[str], dict[str, str]]]
"""Gives the argv, whose first is a path, and the whole environment."""


class ProxyProcess:
    """Starts and stops it; reports ProxyStarted and ProxyExited from what the keeper tells."""

    def __init__(
        self, link: KeeperLink, state: StateFolder, *, inbox: Inbox, clock: Clock, launch: ProxyLaunch
    ) -> None:
        self.pid: int | None = None
        self.ahead = False
        """It was started before anybody asked for it, so nobody has been told of it."""
        self._link = link
        self._state = state
        self._inbox = inbox
        self._clock = clock
        self._launch = launch
        self._started_at = 0.0
        self._killing: asyncio.Task[None] | None = None

    async def start_ahead(self) -> None:
        """Starts it while others get ready: it takes 0.15 s to come up. Where that fails, `start` will tell why."""
        if self.pid is not None:
            return
        self.ahead = True
        try:
            await self._spawn()
        except ShoalError:
            self.ahead = False

    async def start(self) -> None:
        """Does nothing when it runs. Raises nothing: a failure is a ProxyExited."""
        if self.ahead:
            self.ahead = False
            if self.pid is not None:
                await self._inbox.put(ProxyStarted(at=self._clock.now(), pid=self.pid))
            return  # else the keeper's event is on its way
        if self.pid is not None:
            return
        try:
            await self._spawn()
        except ShoalError as error:
            if isinstance(error, KeeperError) and error.reason == "exists":
                return
            now = self._clock.now()
            end = Exit(at=now, error=str(error), tail=tuple(error.detail.splitlines()[-tails.LINES :]))
            await self._inbox.put(ProxyExited(at=now, exit=end))

    async def _spawn(self) -> None:
        argv, env = self._launch()
        if not os.access(argv[0], os.X_OK):
            raise EngineError(f"{argv[0]} is not there, or no program", way_out="name one in SHOAL_ENVOY")
        self._started_at = self._clock.now()
        await self._link.call(
            "spawn",
            name=NAME,
            argv=[sys.executable, "-I", "-S", unparented.__file__, *argv],
            env=env,
            cwd=str(self._state.root),
            log=str(self._log),
            tag={"kind": "proxy"},
            namespace=None,
        )

    async def drop(self) -> None:
        """Ends one that was started ahead and that nobody came to need."""
        if self.ahead:
            try:
                await self._link.call("signal", name=NAME, signal=int(signal.SIGKILL), group=True)
            except KeeperError:
                pass  # it has ended

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when that had its time. Ends in a ProxyExited, also where there is no process."""
        try:
            await self._link.call("signal", name=NAME, signal=int(signal.SIGTERM), group=False)
        except KeeperError:
            if self.pid is None:
                now = self._clock.now()
                await self._inbox.put(ProxyExited(at=now, exit=Exit(at=now, error="there was no process")))
            return
        if self._killing is None or self._killing.done():
            self._killing = asyncio.create_task(self._kill(self.pid), name="kill proxy")

    async def close(self) -> None:
        if self._killing is not None:
            self._killing.cancel()
            await asyncio.gather(self._killing, return_exceptions=True)

    def take_over(self, listing: Listing) -> None:
        """What runs when the daemon comes (back), silently."""
        self.pid = None
        for row in listing:
            if row["name"] == NAME and row["running"]:
                self.pid = row["pid"]
                self._started_at = row.get("started_at") or 0.0

    async def reconcile(self, listing: Listing) -> None:
        """What runs according to a new keeper; tells what changed."""
        before = self.pid
        self.take_over(listing)
        now = self.pid
        if now == before:
            return
        self.pid = before
        if before is not None:
            codes = [row["exit_code"] for row in listing if row["name"] == NAME and row["pid"] == before]
            await self.exited(before, codes[0] if codes else None)
        if now is not None:
            await self.spawned(now)

    async def spawned(self, pid: int) -> None:
        self.pid = pid
        if not self.ahead:
            await self._inbox.put(ProxyStarted(at=self._clock.now(), pid=pid))

    async def exited(self, pid: int, exit_code: int | None) -> None:
        if self.pid != pid:
            return
        at = self._clock.now()
        if self.ahead:
            self.pid, self.ahead = None, False
            return  # `start` tries once more, and tells
        tail = await asyncio.to_thread(tails.tail, self._log, since=self._started_at)
        self.pid = None
        await self._inbox.put(ProxyExited(at=at, exit=Exit(at=at, code=exit_code, tail=tail)))

    async def _kill(self, pid: int | None) -> None:
        await asyncio.sleep(STOP_S)
        if pid is not None and self.pid == pid:
            try:
                await self._link.call("signal", name=NAME, signal=int(signal.SIGKILL), group=True)
            except EngineError:
                pass  # it has just ended; or there is no keeper, and the control loop will ask again

    @property
    def _log(self) -> Path:
        return self._state.logs / f"{NAME}.log"
