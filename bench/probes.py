"""What it costs to probe a thousand replicas: the real prober against real sockets, with nothing to tell.

All lead to one server, on a Unix socket, in a process of its own: what is measured is the prober's own CPU time. The
aim is under 5 % of a core at 1,000 replicas. Beside it: the same without stretching, and 100 replicas, which are asked
each second; and one question of each kind.
"""

from __future__ import annotations

import asyncio
import sys

from bench.apps import temporary_folder
from bench.probe_kinds import HTTP, each_kind, many, probing, unstretched
from bench.processes import process, wait_until
from bench.result import Measure, Result, Spread
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
    """Takes about four minutes; one and a half with `quick`."""
    rounds, for_s = (1, 5.0) if quick else (3, MEASURE_S)
    with temporary_folder() as folder:
        socket = folder / "s"
        (folder / "server.py").write_text(SERVER)
        with process([sys.executable, folder / "server.py", socket], folder=folder):
            wait_until(socket.exists, "the server's socket")
            address = UnixAddress(path=str(socket))
            thousand = many(HTTP, address, REPLICAS)
            all_of_them = [asyncio.run(probing(thousand, SETTLE_S, for_s)) for _ in range(rounds)]
            few = asyncio.run(probing(many(HTTP, address, FEW), SETTLE_S, for_s))
            with unstretched():
                each_second = asyncio.run(probing(thousand, SETTLE_S, for_s))
            kinds, failed = each_kind(socket, folder, for_s / 2, rounds)
    spread = Spread.of([asked.percent for asked in all_of_them])
    costs = {kind: Spread.of(values) for kind, values in kinds.items()}
    return Result(
        name="probes",
        title="Probing",
        measures=[
            Measure(
                what=f"probes: CPU of probing {REPLICAS} replicas over HTTP",
                unit="% of one",
                ours=spread,
                beside={
                    f"{FEW} replicas": Spread.of([few.percent]),
                    f"{REPLICAS} each second, unstretched": Spread.of([each_second.percent]),
                },
                target=f"under {PERCENT:g}",
                met=spread.median < PERCENT,
            ),
            Measure(
                what="probes: CPU of one question over HTTP",
                unit="µs",
                ours=costs.pop(HTTP, Spread.of([each_second.each_us])),
                beside=costs,
            ),
        ],
        notes=[
            f"{all_of_them[0].questions / all_of_them[0].took_s:.0f} questions a second to {REPLICAS} replicas, "
            f"{few.questions / few.took_s:.0f} to {FEW}; at {REPLICAS} a second one takes {each_second.each_us:.0f} µs",
            *(f"one question by {kind}, in a round: {words}" for kind, words in failed.items()),
        ],
    )
