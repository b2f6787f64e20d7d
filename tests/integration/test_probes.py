"""Readiness in each protocol, asked of real servers and by real commands."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from shoal.engines.local.probe import READY, Ask, Result, Target, probe, run_command
from shoal.engines.local.prober import Probed, Prober
from shoal.engines.local.tags import ReplicaTag, from_json
from shoal.model.app import HealthCheck, Protocol
from shoal.model.event import Event, ProbeFailed, ProbeSucceeded
from shoal.model.replica import Address, TcpAddress, UnixAddress
from tests.support.port import free_port

pytestmark = pytest.mark.integration

LOCAL = "127.0.0.1"


def at(port: int) -> TcpAddress:
    return TcpAddress(host=LOCAL, port=port)


@asynccontextmanager
async def grpc_server(health: bytes | grpc.StatusCode | None) -> AsyncIterator[int]:
    """None: it has no health service."""

    async def check(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        assert health is not None
        if isinstance(health, grpc.StatusCode):
            await context.abort(health, "as asked")
        return health

    server = grpc.aio.server()
    if health is not None:
        methods = {"Check": grpc.unary_unary_rpc_method_handler(check)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods),))
    port = server.add_insecure_port(f"{LOCAL}:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    ("health", "default", "strict"),
    [
        (b"\x08\x01", "", ""),
        (b"\x08\x02", "gRPC health says NOT_SERVING", "gRPC health says NOT_SERVING"),
        (b"", "gRPC health says UNKNOWN", "gRPC health says UNKNOWN"),
        (None, "", "gRPC health answers UNIMPLEMENTED"),
        (grpc.StatusCode.NOT_FOUND, "", "gRPC health answers NOT_FOUND"),
        (grpc.StatusCode.UNAVAILABLE, "no answer in gRPC: as asked", "no answer in gRPC: as asked"),
    ],
)
def test_grpc_is_ready_when_it_says_so_or_knows_no_such_question(
    health: bytes | grpc.StatusCode | None, default: str, strict: str
) -> None:
    async def main() -> None:
        async with grpc_server(health) as port:
            for expected, is_strict in ((default, False), (strict, True)):
                target = Target(address=at(port), health=None, protocol=Protocol.GRPC, strict=is_strict)
                assert await probe(target) == Result(not expected, expected)

    asyncio.run(main())


def test_who_speaks_another_protocol_is_told_which_to_say() -> None:
    async def http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(24)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with grpc_server(b"\x08\x01") as port:
            answer = await probe(Target(address=at(port), health=None))
            assert answer == Result(False, "speaks HTTP/2 only; say protocol: grpc")
        server = await asyncio.start_server(http1, LOCAL, 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            answer = await probe(Target(address=at(port), health=None, protocol=Protocol.GRPC))
            assert answer == Result(False, "speaks HTTP/1.1, not gRPC; say protocol: http")

    asyncio.run(main())


@pytest.mark.parametrize("protocol", [Protocol.GRPC, Protocol.TCP])
def test_where_nobody_listens_is_said_in_the_same_words(protocol: Protocol, tmp_path: Path) -> None:
    async def main() -> None:
        refused = await probe(Target(address=at(free_port()), health=None, protocol=protocol))
        assert refused == Result(False, "connection refused")
        missing = UnixAddress(path=str(tmp_path / "s"))
        absent = await probe(Target(address=missing, health=None, protocol=protocol))
        assert absent == Result(False, "does not listen yet")

    asyncio.run(main())


def test_tcp_is_ready_when_it_accepts_and_is_then_only_looked_at() -> None:
    async def main() -> None:
        accepted = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(True)
            writer.close()

        server = await asyncio.start_server(accept, LOCAL, 0)
        port = server.sockets[0].getsockname()[1]
        assert await probe(Target(address=at(port), health=None, protocol=Protocol.TCP)) == READY
        for _ in range(100):
            assert await probe(Target(address=at(port), health=None, protocol=Protocol.TCP, quiet=True)) == READY
        assert len(accepted) == 1
        server.close()
        gone = READY
        async with asyncio.timeout(20):
            while gone == READY:  # the table of who listens may be a moment old
                gone = await probe(Target(address=at(port), health=None, protocol=Protocol.TCP, quiet=True))
        assert gone == Result(False, "does not listen any more")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 0", READY),
        ('test "$ANSWER" = 42', READY),
        ("echo a; echo not yet; exit 3", Result(False, "echo a; echo not yet; exit 3 ended with 3: not yet")),
        ("sleep 100", Result(False, "sleep 100 did not end in 0.3 s")),
        ("sleep 100 & exit 0", READY),
        ("yes | head -c 1000000", READY),
    ],
)  # fmt: skip
def test_a_command_says_by_its_end_whether_the_replica_is_ready(script: str, expected: Result) -> None:
    env = {"PATH": os.environ["PATH"], "ANSWER": "42"}
    ask = Ask(argv=("/bin/sh", "-c", script), env=env, folder="/")
    timeout_s = 0.3 if script == "sleep 100" else 20.0
    assert asyncio.run(run_command(ask, timeout_s=timeout_s)) == expected


def test_a_command_that_is_not_there_is_no_readiness() -> None:
    ask = Ask(argv=("/no/such/program",), env={}, folder="/")
    expected = Result(False, "/no/such/program cannot be run: no such file or directory")
    assert asyncio.run(run_command(ask)) == expected


async def told(probed: Probed, until: Callable[[Event], bool]) -> None:
    found = asyncio.Event()

    async def put(event: Event) -> None:
        if until(event):
            found.set()

    prober = Prober(put)
    prober.start(probed)
    try:
        async with asyncio.timeout(20):
            await found.wait()
    finally:
        await prober.close()


def test_a_replica_is_ready_when_all_its_ports_answer() -> None:
    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def main() -> None:
        web = await asyncio.start_server(hello, LOCAL, 0)
        admin = free_port()
        address: Address = at(web.sockets[0].getsockname()[1])
        probed = Probed(
            replica="web-r1",
            attempt=1,
            pid=os.getsid(0),
            address=address,
            health=None,
            ports=(("admin", Protocol.TCP, at(admin)),),
        )
        late = "port admin: connection refused"
        await told(probed, lambda event: isinstance(event, ProbeFailed) and event.detail == late)
        second = await asyncio.start_server(hello, LOCAL, admin)
        await told(probed, lambda event: isinstance(event, ProbeSucceeded))
        for server in (web, second):
            server.close()

    asyncio.run(main())


def test_a_worker_with_a_health_command_is_ready_when_that_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        check = HealthCheck(command=(sys.executable, "-c", "import os, sys; sys.exit(not os.path.exists('there'))"))
        probed = Probed(replica="w-r1", attempt=1, pid=1, address=None, health=check, folder=str(tmp_path))
        await told(probed, lambda event: isinstance(event, ProbeFailed) and "ended with 1" in event.detail)
        (tmp_path / "there").touch()
        await told(probed, lambda event: isinstance(event, ProbeSucceeded))

    asyncio.run(main())


def test_what_the_keeper_remembers_comes_back_whole() -> None:
    tag = ReplicaTag(
        replica="web-r1",
        service="web",
        number=1,
        attempt=2,
        address=at(20000),
        health=HealthCheck(command=("check", "20001"), port="admin"),
        hosts=None,
        asked_at=1.5,
        protocol=Protocol.GRPC,
        ports=(("admin", Protocol.TCP, at(20001)),),
        folder="/srv",
    )
    import json

    assert from_json(json.loads(json.dumps(tag.to_json()))) == tag
