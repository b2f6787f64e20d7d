"""Envoy, as one process of the keeper; as two while one takes over from the other.

A replacement is Envoy's own hot restart: the new one is given the listening sockets of the old, gets its configuration,
begins to serve, and only then tells the old to drain. The two have alternating names at the keeper, because a name is
one process's at a time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from shoal.engines.local import tails
from shoal.engines.local.keeper import unparented
from shoal.engines.local.keeper_client import KeeperError
from shoal.engines.local.keeper_link import KeeperLink, Listing
from shoal.errors import EngineError, ShoalError
from shoal.model.event import ProxyExited, ProxyReplaced, ProxyReplacementFailed, ProxyStarted
from shoal.model.replica import Exit
from shoal.paths import StateFolder
from shoal.ports import Clock, Inbox

NAMES = ("envoy", "envoy-b")
"""Of the processes with even and with odd restart epochs."""
STOP_S = 5.0
"""From SIGTERM to SIGKILL. Envoy ends at once; one that hangs must not hold up `shoal down`."""
LIVE_S_MAX = 30.0
"""How long a new Envoy has to take over. The old one serves meanwhile."""
LIVE_PAUSE_S = 0.05
LEAVE_S_MAX = 25.0
"""How long the old one may drain. The new one ends it after 15 s, unless SHOAL_ENVOY_DRAIN_S is not 10."""

ProxyLaunch = Callable[[int], tuple[Sequence[str], dict[str, str]]]
"""Gives, for a restart epoch, the argv, whose first is a path, and the whole environment. Epoch 0: nothing of an older
one is there, or may be left."""
ProxyLive = Callable[[int], Awaitable[bool]]
"""Whether the Envoy of this epoch serves."""


async def always_live(_epoch: int) -> bool:
    """For those that cannot be asked."""
    return True


class ProxyProcess:
    """Starts, replaces and stops it; reports ProxyStarted, ProxyReplaced and ProxyExited from what the keeper tells."""

    def __init__(
        self,
        link: KeeperLink,
        state: StateFolder,
        *,
        inbox: Inbox,
        clock: Clock,
        launch: ProxyLaunch,
        live: ProxyLive = always_live,
    ) -> None:
        self.pid: int | None = None
        """Of the one that serves; while another is about to take over, still of the old one."""
        self.ahead = False
        """It was started before anybody asked for it, so nobody has been told of it."""
        self._epoch = 0
        self._link = link
        self._state = state
        self._inbox = inbox
        self._clock = clock
        self._launch = launch
        self._live = live
        self._next: tuple[int, int] | None = None
        """(epoch, pid) of the one that is to take over."""
        self._leaving: int | None = None
        """The pid of the one that has handed over."""
        self._left = asyncio.Event()
        """It has ended."""
        self._started_at = 0.0
        self._work: dict[str, asyncio.Task[None]] = {}

    async def start_ahead(self) -> None:
        """Starts it while others get ready: it takes 0.15 s to come up. Where that fails, `start` will tell why."""
        if self.pid is not None:
            return
        self.ahead = True
        try:
            await self._begin()
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
            await self._begin()
        except ShoalError as error:
            if isinstance(error, KeeperError) and error.reason == "exists":
                return
            now = self._clock.now()
            end = Exit(at=now, error=str(error), tail=tuple(error.detail.splitlines()[-tails.LINES :]))
            await self._inbox.put(ProxyExited(at=now, exit=end))

    async def _begin(self) -> None:
        await self._end_leftovers()
        self._epoch = 0
        self._started_at = self._clock.now()
        await self._spawn(0)

    async def drop(self) -> None:
        """Ends one that was started ahead and that nobody came to need."""
        if self.ahead:
            await self._signal(self._name, signal.SIGKILL)

    async def replace(self) -> None:
        """Starts the next one, which takes over, and returns when it has, or could not. Raises nothing: a failure is a
        ProxyReplacementFailed, and the old one serves on."""
        if self.pid is None or self._next is not None:
            return
        # Never by killing it: its successor talks to it until it ends it itself, and aborts when nobody answers.
        await self._left_alone(LEAVE_S_MAX)
        epoch = self._epoch + 1
        try:
            # Known before it can end: its end is told by the keeper, perhaps before the answer to this.
            self._next = (epoch, 0)
            pid = await self._spawn(epoch)
            if not self._is_next(epoch):
                return  # it has ended already
            self._next = (epoch, pid)
        except ShoalError as error:
            self._next = None
            await self._replacement_failed(str(error), tuple(error.detail.splitlines()[-tails.LINES :]))
            return
        await self._take_over_from_old(epoch, pid)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when that had its time. Ends in a ProxyExited, also where there is no process."""
        self._next = None
        for name in NAMES:
            if name != self._name:
                await self._signal(name, signal.SIGKILL)
        if not await self._signal(self._name, signal.SIGTERM):
            if self.pid is None:
                now = self._clock.now()
                await self._inbox.put(ProxyExited(at=now, exit=Exit(at=now, error="there was no process")))
            return
        if self.pid is not None:
            self._later("kill", self._kill_later(self.pid, STOP_S))

    async def close(self) -> None:
        for task in self._work.values():
            task.cancel()
        await asyncio.gather(*self._work.values(), return_exceptions=True)

    def take_over(self, listing: Listing) -> None:
        """What runs when the daemon comes (back), silently. With two of them the younger is about to take over, or has
        done so, which `settle` finds out."""
        self.pid = self._next = self._leaving = None
        running = sorted((_epoch_of(row), row) for row in listing if row["name"] in NAMES and row["running"])
        for epoch, row in running:
            if self.pid is None:
                self.pid, self._epoch, self._started_at = row["pid"], epoch, row.get("started_at") or 0.0
            else:
                self._next = (epoch, row["pid"])

    async def settle(self) -> None:
        """After `take_over`: whether a replacement that an earlier daemon began is done."""
        if self._next is not None and await self._live(self._next[0]):
            self._handed_over()

    def resume(self) -> None:
        """Goes on with one that is not."""
        if self._next is not None:
            self._later("resume", self._take_over_from_old(*self._next))

    async def reconcile(self, listing: Listing) -> None:
        """What runs according to a new keeper; tells what changed."""
        rows = {row["pid"]: row for row in listing if row["name"] in NAMES}
        running = {pid for pid, row in rows.items() if row["running"]}
        known = [self._leaving, self._next[1] if self._next else None, self.pid]
        for pid in [one for one in known if one is not None and one not in running]:
            await self.exited(pid, rows[pid]["exit_code"] if pid in rows else None)
        if not self._serves() and running:
            self.take_over(listing)
            if self.pid is not None:
                await self._inbox.put(ProxyStarted(at=self._clock.now(), pid=self.pid))

    async def spawned(self, name: str, pid: int) -> None:
        if self._next is not None and name == NAMES[self._next[0] % 2]:
            self._next = (self._next[0], pid)
            return
        self.pid = pid
        if not self.ahead:
            await self._inbox.put(ProxyStarted(at=self._clock.now(), pid=pid))

    async def exited(self, pid: int, exit_code: int | None) -> None:
        if pid == self._leaving:
            self._leaving = None
            self._left.set()
        elif self._next is not None and self._next[1] == pid:
            epoch = self._next[0]
            self._next = None
            how = Exit(at=0.0, code=exit_code).reason
            await self._replacement_failed(f"the new one ended: {how}", await self._tail(NAMES[epoch % 2]))
        elif pid == self.pid and self.ahead:
            self.pid, self.ahead = None, False  # `start` tries once more, and tells
        elif pid == self.pid:
            at = self._clock.now()
            tail = await self._tail(self._name)
            if self._next is not None:
                # The old one ended before its time: what it had, the new one has.
                self._epoch, self.pid = self._next
                self._next = None
                await self._inbox.put(ProxyReplaced(at=at, pid=self.pid))
                return
            self.pid = None
            await self._inbox.put(ProxyExited(at=at, exit=Exit(at=at, code=exit_code, tail=tail)))

    async def _take_over_from_old(self, epoch: int, pid: int) -> None:
        deadline = self._clock.now() + LIVE_S_MAX
        while self._next == (epoch, pid):
            if await self._live(epoch):
                break
            if self._clock.now() > deadline:
                self._next = None
                await self._kill(pid)
                await self._replacement_failed(f"the new one did not take over within {LIVE_S_MAX:g} s", ())
                return
            await asyncio.sleep(LIVE_PAUSE_S)
        if self._next != (epoch, pid):
            return
        self._handed_over()
        await self._inbox.put(ProxyReplaced(at=self._clock.now(), pid=pid))

    def _serves(self) -> bool:
        return self.pid is not None

    def _is_next(self, epoch: int) -> bool:
        return self._next is not None and self._next[0] == epoch

    def _handed_over(self) -> None:
        assert self._next is not None
        self._leaving = self.pid
        self._epoch, self.pid = self._next
        self._next = None
        self._started_at = self._clock.now()
        self._left.clear()
        if self._leaving is not None:
            self._later("leave", self._kill_later(self._leaving, LEAVE_S_MAX))

    async def _replacement_failed(self, why: str, tail: tuple[str, ...]) -> None:
        now = self._clock.now()
        await self._inbox.put(ProxyReplacementFailed(at=now, exit=Exit(at=now, error=why, tail=tail)))

    async def _spawn(self, epoch: int) -> int:
        """The new process's pid. EngineError."""
        argv, env = self._launch(epoch)
        if not os.access(argv[0], os.X_OK):
            raise EngineError(f"{argv[0]} is not there, or no program", way_out="name one in SHOAL_ENVOY")
        answer = await self._link.call(
            "spawn",
            name=NAMES[epoch % 2],
            argv=[sys.executable, "-I", "-S", unparented.__file__, *argv],
            env=env,
            cwd=str(self._state.root),
            log=str(self._log_of(NAMES[epoch % 2])),
            tag={"kind": "proxy", "epoch": epoch},
            namespace=None,
        )
        pid: int = answer["pid"]
        return pid

    async def _end_leftovers(self) -> None:
        """Nothing serves: one that had handed over, or was to take over, would be in the way of a new beginning."""
        self._next = None
        for name in NAMES:
            await self._signal(name, signal.SIGKILL)
        if self._leaving is not None:
            await self._kill(self._leaving)

    async def _kill(self, pid: int) -> None:
        """SIGKILL to it, and its end, as far as that comes soon."""
        for name in NAMES:
            if name != self._name or self.pid is None:
                await self._signal(name, signal.SIGKILL)
        if self._leaving == pid:
            await self._left_alone(STOP_S)

    async def _left_alone(self, timeout_s: float) -> None:
        """Until the one that has handed over has ended, or this time is over: then a new one of its name is refused."""
        if self._leaving is not None:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._left.wait()
            except TimeoutError:
                pass

    async def _kill_later(self, pid: int, after_s: float) -> None:
        await asyncio.sleep(after_s)
        try:
            if pid == self.pid:
                await self._signal(self._name, signal.SIGKILL)
            elif pid == self._leaving:
                await self._signal(NAMES[(self._epoch + 1) % 2], signal.SIGKILL)
        except EngineError:
            pass  # there is no keeper, and the control loop will ask again

    async def _signal(self, name: str, number: signal.Signals) -> bool:
        """Whether it was sent. To the group when it is SIGKILL."""
        try:
            await self._link.call("signal", name=name, signal=int(number), group=number is signal.SIGKILL)
        except KeeperError:
            return False  # it has just ended, or never was
        return True

    def _later(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        old = self._work.pop(what, None)
        if old is not None:
            old.cancel()
        self._work[what] = asyncio.create_task(work, name=f"{what} proxy")

    async def _tail(self, name: str) -> tuple[str, ...]:
        return await asyncio.to_thread(tails.tail, self._log_of(name), since=self._started_at)

    def _log_of(self, name: str) -> Path:
        return self._state.logs / f"{name}.log"

    @property
    def _name(self) -> str:
        return NAMES[self._epoch % 2]


def _epoch_of(row: dict[str, Any]) -> int:
    """0 for one that an older Shoal started."""
    tag = row.get("tag")
    return int(tag.get("epoch", 0)) if isinstance(tag, dict) else 0
