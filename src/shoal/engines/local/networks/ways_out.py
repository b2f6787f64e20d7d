"""Ways out to what is outside, for replicas with networks of their own that are not held to a list (`egress:`).

Each has a pasta (package passt) of its own, which hands the connections of that network on as the machine's user makes
them: past no mesh, because the networks of other replicas are nowhere on the machine's; and not to the machine's
loopback, because nothing is mapped to it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal.engines.local.keeper_client import KeeperError
from shoal.engines.local.keeper_link import KeeperLink, Listing
from shoal.engines.local.networks import resolver
from shoal.errors import EngineError
from shoal.paths import StateFolder

ADDRESS, MASK, END = "10.79.0.2", "255.255.255.252", "out"
"""Of every replica's end: each is alone in its network."""
TUN = Path("/dev/net/tun")
ROUTES = Path("/proc/net/route")
RETRY_S_FIRST = 0.2
RETRY_S_MAX = 10.0
_SUFFIX = ".pasta"
OTHERWISE = "name what the service connects to in its 'egress'"


def detect() -> tuple[bool, str]:
    """Whether replicas can have a way out here; and if not, why, with what else there is."""
    if os.geteuid() == 0:
        return False, f"pasta gives up root's rights before it could make one; be a user, or {OTHERWISE}"
    if shutil.which("pasta") is None:
        return False, f"there is no pasta on the PATH; install the package passt, or {OTHERWISE}"
    if not os.access(TUN, os.R_OK | os.W_OK):
        return False, f"{TUN} is closed to this user; 'chmod 666 {TUN}' (as root) opens it, or {OTHERWISE}"
    if not _is_connected():
        return False, f"this machine has no route to the outside itself; connect it, or {OTHERWISE}"
    return True, ""


def _is_connected() -> bool:
    """Whether there is a default route of IPv4."""
    try:
        lines = ROUTES.read_text().splitlines()[1:]
    except OSError:
        return False
    return any(line.split()[1:2] == ["00000000"] for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """A replica that is to have one."""

    replica: str
    attempt: int
    pid: int

    @property
    def name(self) -> str:
        """Of its pasta."""
        return f"{self.replica}.{self.attempt}{_SUFFIX}"


class WaysOut:
    """Keeps one for each of `wanted()`, and ends the others. `mesh()`: the pid of a process in the mesh network, whose
    user's rights the networks belong to; None: there is none now."""

    def __init__(
        self,
        link: KeeperLink,
        state: StateFolder,
        *,
        wanted: Callable[[], Iterable[Inside]],
        mesh: Callable[[], int | None],
    ) -> None:
        self._link = link
        self._state = state
        self._wanted = wanted
        self._mesh = mesh
        self._running: set[str] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def settle(self) -> None:
        """Replicas came or went: sees to it, without waiting for it."""
        if self._task is None and (self._running or any(True for _ in self._wanted())):
            self._task = asyncio.create_task(self._keep(), name="ways out")
        self._changed.set()

    def take_over(self, listing: Listing) -> None:
        """What runs according to a keeper that was found."""
        self._running = {row["name"] for row in listing if row["name"].endswith(_SUFFIX) and row["running"]}

    def heard(self, event: dict[str, Any]) -> bool:
        """Takes an event of the keeper. Whether it was about one of these."""
        name = event["name"]
        if not name.endswith(_SUFFIX):
            return False
        if event["event"] == "spawned":
            self._running.add(name)
        elif event["event"] == "exited":
            self._running.discard(name)
            self._changed.set()
        return True

    async def close(self) -> None:
        """Ends our own task; touches no process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        tries: dict[str, tuple[float, float]] = {}
        """Of each: not before when it is started again, and how long it then waits for the next time."""
        while True:
            self._changed.clear()
            wanted = {one.name: one for one in self._wanted()}
            for name in self._running - wanted.keys():
                await self._end(name)
            mesh = self._mesh()
            for name in wanted.keys() - self._running if mesh is not None else ():
                at, pause_s = tries.get(name, (0.0, RETRY_S_FIRST))
                if clock() >= at:
                    tries[name] = (clock() + pause_s, min(pause_s * 2, RETRY_S_MAX))
                    await self._start(wanted[name], mesh)
            tries = {name: later for name, later in tries.items() if name in wanted}
            missing = [tries.get(name, (clock() + RETRY_S_FIRST, 0.0))[0] for name in wanted.keys() - self._running]
            try:
                async with asyncio.timeout_at(min(missing, default=None)):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _start(self, one: Inside, mesh: int | None) -> None:
        argv = [
            "pasta",
            *("--quiet", "--foreground", "--ipv4-only", "--config-net"),
            # Nothing of the machine's own: not its loopback, and no port in either direction.
            *("--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none"),
            *("--address", ADDRESS, "--netmask", MASK, "--gateway", resolver.GATEWAY, "--ns-ifname", END),
            *("--userns", f"/proc/{mesh}/ns/user", "--netns", f"/proc/{one.pid}/ns/net"),
        ]
        if resolver.needs_forwarding():
            argv += ["--dns-forward", resolver.GATEWAY]
        log = self._state.logs / "pasta" / f"{one.replica}.log"
        try:
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._link.call(
                "spawn",
                name=one.name,
                argv=argv,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd=str(self._state.root),
                log=str(log),
                tag={"kind": "way-out"},
                namespace=None,
            )
        except (EngineError, OSError):
            return  # it is tried again; its program goes on without a way out meanwhile
        self._running.add(one.name)

    async def _end(self, name: str) -> None:
        try:
            await self._link.call("signal", name=name, signal=int(signal.SIGKILL), group=True)
        except KeeperError:
            pass  # it has just ended
        except EngineError:
            return
        self._running.discard(name)
        try:
            await self._link.call("forget", name=name)
        except EngineError:
            pass  # it has not ended yet: its record goes with the keeper's
