"""Probes every running replica, and tells the control loop what changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from shoal.engines.local.networks.reach import Reach
from shoal.engines.local.probe import READY, Ask, Result, Target, look_closer, probe, run_command
from shoal.model.app import HealthCheck, Protocol
from shoal.model.event import Event, ProbeFailed, ProbeSucceeded
from shoal.model.replica import Address

PAUSE_S_FIRST = 0.02
PAUSE_GROWTH = 1.3
PAUSE_S = 1.0
"""Between two probes: the first grows to the last, until the replica is ready. By a third each time: with doubling, a
replica could have been ready for as long as it took to get there."""
EAGER_PAUSE_S, EAGER_ASKS = 0.03, 100
"""`shoal dev`: so often, for so many times, before the pauses grow; each costs 0.1 ms."""
OWNER_PAUSE_S = 0.3
"""A failure is only looked into when the first moments are over: most replicas just boot."""
COMMAND_PAUSE_S = 5.0
"""Between two runs of a command once the replica is ready: each is a process."""
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
    health: str | HealthCheck | None
    protocol: Protocol = Protocol.HTTP
    ports: tuple[tuple[str, Protocol, Address], ...] = ()
    """Its further ports, by their names."""
    eager: bool = False
    """Somebody waits for it."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Its variables, for a health command."""
    folder: str = "/"
    reach: Reach | None = None
    """How to get into its own network, where it has one."""


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
        check = _check(probed)
        work = self._server(probed, check) if check.command or probed.address is not None else self._worker(probed)
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

    async def _server(self, probed: Probed, check: HealthCheck) -> None:
        target, others = _targets(probed, check)
        ask = Ask(argv=check.command, env=probed.env, folder=probed.folder)
        steady_s = COMMAND_PAUSE_S if target is None else PAUSE_S
        successes, pause_s, told = 0, PAUSE_S_FIRST, ""
        eager = EAGER_ASKS if probed.eager else 0
        while True:
            settling = successes < SUCCESSES_TOLD
            if target is None:
                result = await run_command(ask)
            else:
                result = await probe(replace(target, quiet=not settling))
                if settling and (result.ready or pause_s >= OWNER_PAUSE_S):
                    result = await look_closer(target, result)
            if settling and result.ready:
                result = await _all_ready(others)
            if result.ready:
                successes += 1
                if successes <= SUCCESSES_TOLD:
                    await self._tell(probed, result)
                pause_s = steady_s
            else:
                # While it boots, the same words again and again are no news.
                if pause_s >= PAUSE_S or result.detail != told:
                    await self._tell(probed, result)
                successes, told = 0, result.detail
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * PAUSE_GROWTH, max(pause_s, PAUSE_S))
            eager -= 1
            if eager > 0 and not result.ready:
                pause_s = min(pause_s, EAGER_PAUSE_S)

    async def _tell(self, probed: Probed, result: Result) -> None:
        now = self._now()
        if result.ready:
            await self._put(ProbeSucceeded(at=now, replica=probed.replica, attempt=probed.attempt))
        else:
            await self._put(ProbeFailed(at=now, replica=probed.replica, attempt=probed.attempt, detail=result.detail))


def _check(probed: Probed) -> HealthCheck:
    return probed.health if isinstance(probed.health, HealthCheck) else HealthCheck(path=probed.health)


def _targets(probed: Probed, check: HealthCheck) -> tuple[Target | None, dict[str, Target]]:
    """The port that is asked again and again (None: the command is run), and the others: a replica is ready only when
    each of its ports has answered its protocol."""
    ports = {name: (protocol, address) for name, protocol, address in probed.ports}
    if probed.address is not None:
        ports[""] = (probed.protocol, probed.address)
    targets = {
        name: Target(address=address, health=None, session=probed.pid, protocol=protocol, reach=probed.reach)
        for name, (protocol, address) in ports.items()
    }
    if check.command:
        return None, targets
    asked = targets.pop(check.port)
    protocol = Protocol.GRPC if check.grpc else asked.protocol
    return replace(asked, health=check.path, host=check.host, protocol=protocol, strict=check.grpc), targets


async def _all_ready(targets: Mapping[str, Target]) -> Result:
    for name, target in targets.items():
        result = await probe(target)
        if result.ready:
            result = await look_closer(target, result)
        if not result.ready:
            return Result(False, f"port {name}: {result.detail}" if name else result.detail)
    return READY
