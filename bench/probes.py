"""What it costs to probe a thousand replicas: the real prober against real sockets, with nothing to tell.

All lead to one server, on a Unix socket, in a process of its own: what is measured is the prober's own CPU time. The
aim is under 5 % of a core at 1,000 replicas. Beside it: the same without stretching, and 100 replicas, which are asked
each second.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from bench.apps import temporary_folder
from bench.processes import process, wait_until
from bench.result import Measure, Result, Spread
from shoal.engines.local import probe_budget
from shoal.engines.local.prober import Probed, Prober
from shoal.model.event import Event
from shoal.model.replica import UnixAddress

REPLICAS, FEW = 1000, 100
SETTLE_S, MEASURE_S = 6.0, 20.0
PERCENT = 5.0
SERVER = """
import asyncio, sys

class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\nconnection: close\\r\\n\\r\\nok")
        self.transport.close()

async def main():
    server = await asyncio.get_running_loop().create_unix_server(Answer, sys.argv[1], backlog=1024)
    await server.serve_forever()

asyncio.run(main())
"""


def run(quick: bool) -> Result:
    """Takes about a minute and a half."""
    rounds, for_s = (1, 5.0) if quick else (3, MEASURE_S)
    with temporary_folder() as folder:
        socket = folder / "s"
        (folder / "server.py").write_text(SERVER)
        with process([sys.executable, folder / "server.py", socket], folder=folder):
            wait_until(socket.exists, "the server's socket")
            all_of_them = [_percent(socket, REPLICAS, for_s) for _ in range(rounds)]
            few = _percent(socket, FEW, for_s)
            budget, probe_budget.BUDGET = probe_budget.BUDGET, 1e9
            try:
                unstretched = _percent(socket, REPLICAS, for_s)
            finally:
                probe_budget.BUDGET = budget
    spread = Spread.of([percent for percent, _ in all_of_them])
    each_us = unstretched[0] * 1e4 / unstretched[1]
    return Result(
        name="probes",
        title="Probing",
        measures=[
            Measure(
                what=f"probes: CPU of probing {REPLICAS} replicas over HTTP",
                unit="% of one",
                ours=spread,
                beside={
                    f"{FEW} replicas": Spread.of([few[0]]),
                    f"{REPLICAS} each second, unstretched": Spread.of([unstretched[0]]),
                },
                target=f"under {PERCENT:g}",
                met=spread.median < PERCENT,
            )
        ],
        notes=[
            f"{all_of_them[0][1]:.0f} questions a second to {REPLICAS} replicas, {few[1]:.0f} to {FEW}; "
            f"a question takes {each_us:.0f} µs of CPU"
        ],
    )


def _percent(socket: Path, replicas: int, for_s: float) -> tuple[float, float]:
    """CPU of this process while so many are probed, and the questions asked a second."""
    return asyncio.run(_probing(socket, replicas, for_s))


async def _probing(socket: Path, replicas: int, for_s: float) -> tuple[float, float]:
    told = 0

    async def put(event: Event) -> None:
        nonlocal told
        told += 1

    prober = Prober(put)
    for number in range(replicas):
        address = UnixAddress(path=str(socket))
        prober.start(
            Probed(
                replica=f"s{number}-r1", attempt=1, pid=1, address=address, health="/", found=True, restart_hung=True
            )
        )
    await asyncio.sleep(SETTLE_S)
    asked, told = prober.asked, 0
    cpu, began = time.process_time(), time.monotonic()
    await asyncio.sleep(for_s)
    spent, took = time.process_time() - cpu, time.monotonic() - began
    questions = prober.asked - asked
    await prober.close()
    if told:
        raise RuntimeError(f"{told} answers were told of, where nothing changes: the server did not keep up")
    return 100 * spent / took, questions / took
