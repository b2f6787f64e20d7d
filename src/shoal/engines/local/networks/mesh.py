"""The mesh network of an app, and the Envoy in it: two processes of the keeper, there once a service needs them."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from shoal.engines.local.keeper import holder, unparented
from shoal.engines.local.keeper_client import KeeperError
from shoal.engines.local.keeper_link import KeeperLink, Listing
from shoal.engines.local.proxy import ProxyLaunch
from shoal.errors import EngineError, ShoalError
from shoal.paths import StateFolder

HOLDER, ENVOY = "network", "envoy-own"
"""Names of the two. No service's replica is called so: those end in `-r` and a number."""
RESTART_S_FIRST = 0.05
RESTART_S_MAX = 5.0

Told = Callable[[str], None]


class MeshNetwork:
    """Started by `ensure`, kept alive from then on, ended by `stop`. Each of the two keeps the network while the other
    is started again."""

    def __init__(
        self, link: KeeperLink, state: StateFolder, *, launch: ProxyLaunch, on_new: Callable[[], Awaitable[None]]
    ) -> None:
        """`on_new`: called when a network was made, which no replica is in that ran before."""
        self.id = ""
        """Of the network that there is; empty: none was made yet."""
        self._link = link
        self._state = state
        self._launch = launch
        self._on_new = on_new
        self._pids: dict[str, int] = {}
        self._wanted = False
        self._ended = False
        self._lock = asyncio.Lock()
        self._restarting: asyncio.Task[None] | None = None

    @property
    def pids(self) -> set[int]:
        return set(self._pids.values())

    @property
    def pid(self) -> int | None:
        """Of one that is in the network."""
        return min(self._pids.values(), default=None)

    def network_of(self, address: str, resolv: str | None = None) -> dict[str, str | None]:
        """As `spawn` takes it, for a replica with that address. `resolv`: its resolv.conf; None: the machine's."""
        return {"kind": "own", "mesh": self._inhabitant() or HOLDER, "address": address, "resolv": resolv}

    async def ensure(self) -> None:
        """Starts what does not run. EngineError."""
        async with self._lock:
            self._wanted = True
            if HOLDER not in self._pids:
                await self._start_holder()
            if ENVOY not in self._pids:
                await self._start_envoy()

    def want(self) -> None:
        """The same, without waiting for it; nothing once it was stopped."""
        if not self._ended and not self._wanted:
            self._wanted = True
            self.revive()

    async def stop(self) -> None:
        """Asks both to end."""
        self._wanted, self._ended = False, True
        if self._restarting is not None:
            self._restarting.cancel()
        for name in list(self._pids):
            try:
                await self._link.call("signal", name=name, signal=int(signal.SIGKILL), group=True)
            except KeeperError:
                pass  # it has just ended

    async def close(self) -> None:
        """Ends our own task; touches no process."""
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)

    def take_over(self, listing: Listing) -> None:
        """What runs according to a keeper that was found."""
        there = [row for row in listing if row["name"] in (HOLDER, ENVOY) and row["running"]]
        self._pids = {row["name"]: row["pid"] for row in there}
        for row in there:
            self._wanted = True
            self.id = (row.get("tag") or {}).get("id", "")

    def revive(self) -> None:
        """Starts again what has ended, if it is wanted."""
        if self._wanted and len(self._pids) < 2 and (self._restarting is None or self._restarting.done()):
            self._restarting = asyncio.create_task(self._restart(), name="restart mesh network")

    def heard(self, event: dict[str, Any]) -> bool:
        """Takes an event of the keeper. Whether it was about one of the two."""
        name = event["name"]
        if name not in (HOLDER, ENVOY):
            return False
        if event["event"] == "spawned":
            self._pids[name] = event["pid"]
        elif event["event"] == "exited" and self._pids.get(name) == event["pid"]:
            del self._pids[name]
            self.revive()
        return True

    async def _restart(self) -> None:
        pause_s = RESTART_S_FIRST
        while self._wanted and len(self._pids) < 2:
            try:
                await self.ensure()
            except ShoalError:
                pass  # a replica that needs it says why
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RESTART_S_MAX)

    def _inhabitant(self) -> str | None:
        """The name of one that is in the network."""
        return next((name for name in (HOLDER, ENVOY) if name in self._pids), None)

    async def _start_holder(self) -> None:
        inhabitant = self._inhabitant()
        network = {"kind": "join", "mesh": inhabitant} if inhabitant else {"kind": "create"}
        if inhabitant is None:
            self.id = secrets.token_hex(4)
        argv = [sys.executable, "-I", "-S", holder.__file__, str(self._state.network_socket)]
        await self._spawn(HOLDER, argv, {}, network)
        if inhabitant is None:
            await self._on_new()

    async def _start_envoy(self) -> None:
        argv, env = self._launch(0)
        argv = [sys.executable, "-I", "-S", unparented.__file__, *argv]
        await self._spawn(ENVOY, argv, env, {"kind": "join", "mesh": HOLDER})

    async def _spawn(self, name: str, argv: list[str], env: dict[str, str], network: dict[str, str]) -> None:
        log = str(self._state.logs / f"{name}.log")
        namespace = {"hosts": None, "nsswitch": None, "network": network}
        try:
            answer = await self._link.call(
                "spawn",
                name=name,
                argv=argv,
                env=env,
                cwd=str(self._state.root),
                log=log,
                tag={"kind": "network", "id": self.id},
                namespace=namespace,
            )
        except KeeperError as error:
            if error.reason != "exists":
                raise EngineError(f"no network for replicas: {error.message}", way_out="see shoal doctor") from error
        else:
            self._pids[name] = answer["pid"]
