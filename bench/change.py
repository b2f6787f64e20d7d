"""One endpoint comes or goes among 10, 100 and 1,000 services: how long until requests follow, and what it costs.

From the probe's word to the first answer of the replica: inbox, planner, store, routing, xDS and Envoy. The CPU is
measured in changes of their own, without requests.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import aclosing
from dataclasses import dataclass

import uvloop

from bench.control_plane import Box, box, many_services, statuses
from bench.processes import cpu_ns
from bench.result import Measure, Result, Spread

SIZES = (10, 100, 1_000)
TOLERANCE = 1.5
"""`No more than at 10`, with the spread of a machine that does other things too."""


@dataclass(frozen=True, slots=True)
class Found:
    routed_ms: list[float]
    daemon_ms: list[float]
    envoy_ms: list[float]


def run(quick: bool) -> Result:
    """TimeoutError: something did not come up."""
    sizes, changes, groups = ((10, 100), 30, 3) if quick else (SIZES, 200, 5)
    found = {size: uvloop.run(_measure(size, changes, groups)) for size in sizes}
    least, most = found[sizes[0]], sizes[-1]
    measures = []
    for what, of in (
        ("p50 to the first answer", lambda f: _spread(f.routed_ms, 50)),
        ("p99 to the first answer", lambda f: _spread(f.routed_ms, 99)),
        ("CPU of the daemon", lambda f: Spread.of(f.daemon_ms)),
        ("CPU of Envoy", lambda f: Spread.of(f.envoy_ms)),
    ):
        at_most, at_least = of(found[most]), of(least)
        measures.append(
            Measure(
                what=f"change: {what}, of {most:,} services",
                unit="ms",
                ours=at_most,
                beside={f"of {size:,}": of(found[size]) for size in sizes[:-1]},
                target="no more than at 10",
                met=at_most.median <= TOLERANCE * at_least.median,
            )
        )
    notes = [f"met: up to {TOLERANCE} x"]
    return Result(name="change", title="One endpoint change", measures=measures, notes=notes)


def _spread(values: list[float], percent: int) -> Spread:
    cut = statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
    return Spread(median=cut, low=cut, high=cut, count=1)


async def _measure(size: int, changes: int, groups: int) -> Found:
    async with box(many_services(size)) as made:
        replica = "s0-r1"
        routed = [await _routed(made, replica) for _ in range(changes)]
        daemon, envoy = [], []
        for _ in range(groups):
            own, theirs = await _cpu(made, replica, changes // groups)
            daemon.append(own)
            envoy.append(theirs)
    return Found(routed, daemon, envoy)


async def _routed(made: Box, replica: str) -> float:
    """Milliseconds from the good probe to the first answer of the replica."""
    await made.tell(replica, ready=False)
    await made.confirmed(replica, routed=False)
    async with aclosing(statuses(made.mesh_socket, "s0")) as answers:
        async with asyncio.timeout(10):
            while await anext(answers) != 503:
                pass
            started = time.perf_counter()
            await made.tell(replica, ready=True)
            while await anext(answers) != 200:
                pass
        elapsed = time.perf_counter() - started
    await made.confirmed(replica, routed=True)
    return elapsed * 1e3


async def _cpu(made: Box, replica: str, changes: int) -> tuple[float, float]:
    """Milliseconds of the control plane (this process) and of Envoy, a change."""
    own, theirs = time.process_time(), cpu_ns([made.envoy_pid])
    for number in range(changes):
        ready = number % 2 == 1
        await made.tell(replica, ready=ready)
        await made.confirmed(replica, routed=ready)
    if changes % 2:
        await made.tell(replica, ready=True)
        await made.confirmed(replica, routed=True)
        changes += 1
    spent = (time.process_time() - own) * 1e3, (cpu_ns([made.envoy_pid]) - theirs) / 1e6
    return spent[0] / changes, spent[1] / changes
