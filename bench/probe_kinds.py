"""What one question of each kind costs, all of them probed at their pace by the real prober: CPU of this process.

HTTP once more over asyncio's streams, which `shoal.engines.local.asking` replaces.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.port import free_port

from bench.processes import process, wait_until
from shoal.engines.local import asking, ownership, probe_budget
from shoal.engines.local.prober import Probed, Prober
from shoal.model.app import Protocol
from shoal.model.event import Event, ProbeFailed
from shoal.model.health import HealthCheck
from shoal.model.replica import Address, TcpAddress, UnixAddress

HTTP, STREAMS, TCP, GRPC, COMMAND, ITSELF = (
    "HTTP",
    "HTTP over asyncio's streams",
    "TCP",
    "gRPC",
    "command",
    "`true` itself",
)
REPLICAS = {HTTP: 200, STREAMS: 200, TCP: 10, GRPC: 40, COMMAND: 10}
"""Of each kind, asked each second: a load that this process bears easily."""
SETTLE_S = 4.0
GRPC_SERVER = """
import sys
from concurrent import futures
import grpc

class Health(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"\\x08\\x01")

server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Health()])
server.add_insecure_port("unix:" + sys.argv[1])
server.start()
server.wait_for_termination()
"""
TCP_SERVER = """
import asyncio, sys

async def main():
    close = lambda reader, writer: writer.close()
    server = await asyncio.start_server(close, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()

asyncio.run(main())
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """By one prober, over a while."""

    cpu_s: float
    children_s: float
    """Of the commands that it ran."""
    questions: int
    took_s: float

    @property
    def percent(self) -> float:
        return 100 * self.cpu_s / self.took_s

    @property
    def each_us(self) -> float:
        return 1e6 * self.cpu_s / self.questions


def each_kind(web: Path, folder: Path, for_s: float, rounds: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Microseconds of CPU a question, by turns, and why a kind has no number, or fewer. `web`: the socket of an HTTP
    server."""
    (folder / "grpc_server.py").write_text(GRPC_SERVER)
    (folder / "tcp_server.py").write_text(TCP_SERVER)
    socket, port = folder / "g", free_port()
    found: dict[str, list[float]] = {kind: [] for kind in (*REPLICAS, ITSELF)}
    failed: dict[str, str] = {}
    with (
        process([sys.executable, folder / "grpc_server.py", socket], folder=folder),
        process([sys.executable, folder / "tcp_server.py", str(port)], folder=folder) as listening,
    ):
        wait_until(socket.exists, "the gRPC server's socket")
        wait_until(lambda: port in {each.port for each in ownership.listeners_of(listening.pid)}, "a listening server")
        unix = UnixAddress(path=str(web))
        replicas = {
            HTTP: many(HTTP, unix),
            STREAMS: many(STREAMS, unix),
            TCP: many(TCP, TcpAddress(host="127.0.0.1", port=port), pid=listening.pid),
            GRPC: many(GRPC, UnixAddress(path=str(socket))),
            COMMAND: many(COMMAND, unix),
        }
        for _ in range(rounds):
            for kind, probed in replicas.items():
                try:
                    with unstretched(), _over_streams(kind == STREAMS):
                        asked = asyncio.run(probing(probed, SETTLE_S, for_s))
                except RuntimeError as error:  # the machine was too busy for it
                    failed[kind] = str(error)
                    continue
                found[kind].append(asked.each_us)
                if kind == COMMAND:
                    found[ITSELF].append(1e6 * asked.children_s / asked.questions)
    return {kind: values for kind, values in found.items() if values}, failed


def many(kind: str, address: Address, count: int = 0, *, pid: int = 1) -> list[Probed]:
    """So many replicas that are asked in this way; 0: as many as REPLICAS says. TCP: `pid` is who listens."""
    health: str | HealthCheck | None = "/" if kind in (HTTP, STREAMS) else None
    if kind == COMMAND:
        health = HealthCheck(command=("true",), interval_s=1.0)
    return [
        Probed(
            replica=f"s{number}-r1",
            attempt=1,
            pid=pid,
            address=address,
            protocol={TCP: Protocol.TCP, GRPC: Protocol.GRPC}.get(kind, Protocol.HTTP),
            health=health,
            env={"PATH": os.defpath},
            found=True,
            restart_hung=True,
        )
        for number in range(count or REPLICAS[kind])
    ]


async def probing(replicas: Sequence[Probed], settle_s: float, for_s: float) -> Asked:
    """Probes them all. RuntimeError: of a hundred questions more than one was not answered."""
    failed: list[ProbeFailed] = []

    async def put(event: Event) -> None:
        if isinstance(event, ProbeFailed):
            failed.append(event)

    prober = Prober(put)
    for probed in replicas:
        prober.start(probed)
    await asyncio.sleep(settle_s)
    failed.clear()
    asked, cpu, children, began = prober.asked, time.process_time(), _children_s(), time.monotonic()
    await asyncio.sleep(for_s)
    spent = time.process_time() - cpu
    done = Asked(spent, _children_s() - children, prober.asked - asked, time.monotonic() - began)
    await prober.close()
    if 100 * len(failed) > done.questions:
        raise RuntimeError(f"{len(failed)} of {done.questions} failed: {failed[0].detail}")
    return done


@contextmanager
def unstretched() -> Iterator[None]:
    """Each is asked at its own pace, however many there are."""
    budget, probe_budget.BUDGET = probe_budget.BUDGET, 1e9
    try:
        yield
    finally:
        probe_budget.BUDGET = budget


@contextmanager
def _over_streams(instead: bool) -> Iterator[None]:
    """HTTP is asked by asyncio's streams, if `instead`."""
    ask = asking.ask
    if instead:
        asking.ask = _ask_over_streams
    try:
        yield
    finally:
        asking.ask = ask


async def _ask_over_streams(address: Address, question: bytes) -> bytes:
    assert isinstance(address, UnixAddress)
    reader, writer = await asyncio.open_unix_connection(address.path)
    try:
        writer.write(question)
        return await reader.readuntil(b"\n")
    finally:
        writer.close()
        await writer.wait_closed()


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system
