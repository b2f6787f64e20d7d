"""What 1,000 declared calls cost Envoy: memory that is its own, and the time until all of them are served."""

from __future__ import annotations

import uvloop

from bench.control_plane import box, many_services
from bench.processes import memory_kb
from bench.result import Measure, Result, Spread

CALLS = 10
"""A caller."""


def run(quick: bool) -> Result:
    """TimeoutError: something did not come up."""
    services, times = (20, 1) if quick else (100, 3)
    without, with_edges = [], []
    for _ in range(times):
        without.append(uvloop.run(_measure(services, 0)))
        with_edges.append(uvloop.run(_measure(services, CALLS)))
    edges = services * CALLS
    measures = [
        Measure(
            what=f"edges: {what}, {edges:,} edges among {services} services",
            unit=unit,
            ours=Spread.of([found[index] for found in with_edges]),
            beside={"without edges": Spread.of([found[index] for found in without])},
        )
        for index, (what, unit) in enumerate((("anonymous memory of Envoy", "MB"), ("Envoy's start to serving", "s")))
    ]
    notes = ["memory that is not backed by a file; the start includes the control plane's work"]
    return Result(name="edges", title=f"{edges:,} edges", measures=measures, notes=notes)


async def _measure(services: int, calls: int) -> tuple[float, float]:
    """Megabytes and seconds."""
    app = many_services(services, lambda number: [(number + step) % services for step in range(1, calls + 1)])
    async with box(app) as made:
        return memory_kb(made.envoy_pid, "Anonymous") * 1024 / 1e6, made.up_s
