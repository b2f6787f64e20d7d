"""Two revisions of a service behind a real Envoy: what each gets, and what is counted of it."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import grpc
import pytest

from shoal.mesh.canary import Canary, weights, with_canaries
from shoal.mesh.endpoints import Endpoint
from shoal.mesh.snapshot import Snapshot
from shoal.model.app import App, Command, Gateway, Route, Service
from shoal.model.event import TrafficSampled
from shoal.model.replica import TcpAddress, UnixAddress
from shoal.model.signals import Traffic
from shoal.model.traffic import NOTHING, Policy
from shoal.xds.meter import Meter
from tests.support.envoy import Rig, WallClock, rig
from tests.support.http import Connection
from tests.support.port import free_port
from tests.support.replica import Replica, replica

pytestmark = pytest.mark.integration


@dataclass
class Web:
    """A service `web` whose replicas have revisions, and a gateway that leads to it."""

    rig: Rig
    port: int
    gateway: int
    replicas: dict[str, Replica]

    async def ask(self, path: str, times: int = 1, concurrency: int = 1, **headers: str) -> Counter[str]:
        """How many answers came by which replica. `x_canary="always"` is the header."""
        port = self.gateway if headers.pop("by", "") else self.port
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        found: Counter[str] = Counter()

        async def worker(count: int) -> None:
            connection = Connection("127.0.0.1", port, timeout_s=20)
            for _ in range(count):
                answer = await connection.exchange("GET", path, b"", sent)
                found[answer.headers.get("x-shoal-replica", str(answer.status))] += 1
            connection.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(worker(times // concurrency))
        return found


@asynccontextmanager
async def web(revisions: Sequence[int], *, traffic: Policy = NOTHING) -> AsyncIterator[Web]:
    port, gateway = free_port(), free_port()
    service = Service(
        name="web", workload=Command(argv=("serve",)), folder="/app", port=port, publish=True, traffic=traffic
    )
    app = App(name="shop", services=(service,), gateway=Gateway(port=gateway, routes=(Route(service="web", path="/"),)))
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(rig(app))
        there = {
            f"web-r{n}": await stack.enter_async_context(replica(f"web-r{n}", made.folder / f"{n}.sock"))
            for n in range(1, len(revisions) + 1)
        }
        yield Web(made, port, gateway, there)


async def counted(there: Web, meter: Meter, since: int, wanted: int) -> dict[int, Traffic]:
    """By revision, once so many requests and their times are told of."""

    def enough(event: object) -> bool:
        return isinstance(event, TrafficSampled) and sum(sample.requests for sample in event.samples) >= wanted

    event = await there.rig.inbox.expect(enough, since=since)
    # A histogram is put together after the answer that asks for it.
    again = await there.rig.inbox.expect(enough, since=there.rig.inbox.events.index(event) + 1)
    assert isinstance(again, TrafficSampled)
    return {sample.revision: sample for sample in again.samples}


def test_every_attempt_is_counted_with_its_revision_and_its_failures() -> None:
    async def main() -> None:
        async with web((1, 2), traffic=Policy(timeout_s=0.5)) as there:
            old, new = there.replicas["web-r1"], there.replicas["web-r2"]
            nobody = Endpoint(replica="web-r3", address=UnixAddress(path="/nowhere"), revision=3)
            inbox, meter = (
                there.rig.inbox,
                Meter(there.rig.inbox, WallClock(), [there.rig.admin_socket, there.rig.folder]),
            )
            task = asyncio.create_task(meter.run())
            there.rig.route("web", [replace(old.endpoint, revision=1)])
            await there.rig.apply()
            await there.ask("/x", 7)
            assert await there.rig.stat("shoal_attempts.*") == 0, "nobody asks, so nothing is counted"
            meter.watch({"web"})
            await inbox.expect(lambda event: isinstance(event, TrafficSampled))
            await there.ask("/x", 40)
            await there.ask("/status/404", 5)
            found = await counted(there, meter, 0, 45)
            assert (found[1].requests, found[1].errors, sum(found[1].latency)) == (45, 0, 45)
            assert found.keys() == {1}

            # Retries rescue every caller; what the new revision does is seen all the same.
            there.rig.route("web", [replace(old.endpoint, revision=1), replace(new.endpoint, revision=2), nobody])
            await there.rig.apply()
            new.fail_next = 1000
            since = len(inbox.events)
            answers = await there.ask("/x", 60, concurrency=2)
            assert answers == {"web-r1": 60}
            tried = len(new.requests)
            assert tried > 0
            found = await counted(there, meter, since, 45 + 60 + tried)
            assert (found[1].requests, found[1].errors) == (105, 0)
            assert (found[2].requests, found[2].errors) == (tried, tried)
            assert found[3].requests == found[3].errors > 0, "a connection that is refused is an attempt, too"
            assert sum(found[3].latency) == 0

            # Too slow an answer is the replica's failure; a caller that goes away is nobody's.
            new.fail_next = 0
            there.rig.route("web", [replace(new.endpoint, revision=4)])
            await there.rig.apply()
            since = len(inbox.events)
            assert await there.ask("/hang") == {"web-r2": 1}  # Envoy answers 504 in its name
            hung = new.requests.count(("GET", "/hang"))
            _, writer = await asyncio.open_connection("127.0.0.1", there.port)
            writer.write(b"GET /hang HTTP/1.1\r\nhost: web\r\n\r\n")
            await writer.drain()
            await there.rig.until(lambda: new.requests.count(("GET", "/hang")) == hung + 1, "the request is there")
            writer.close()
            await there.ask("/x", 5)
            found = await counted(there, meter, since, sum(t.requests for t in found.values()) + 6)
            assert found[4].requests - found[4].errors == sum(found[4].latency) == 5
            assert 1 <= found[4].errors <= hung, "one for each attempt that had no answer in time"
            assert "non-number" not in there.rig.log()

            meter.watch(())
            task.cancel()

    asyncio.run(main())


def test_a_grpc_status_that_tells_of_the_server_is_a_failure() -> None:
    async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.abort(grpc.StatusCode[request.decode()], "as asked")
        raise AssertionError

    async def main() -> None:
        async with web((1,)) as there:
            server = grpc.aio.server()
            unary = grpc.unary_unary_rpc_method_handler(answer)
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.Echo", {"Unary": unary}),))
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            server.add_insecure_port(f"127.0.0.1:{port}")
            await server.start()
            there.rig.route(
                "web", [Endpoint(replica="web-r1", address=TcpAddress(host="127.0.0.1", port=port), revision=1)]
            )
            await there.rig.apply()
            meter = Meter(there.rig.inbox, WallClock(), [there.rig.admin_socket])
            task = asyncio.create_task(meter.run())
            meter.watch({"web"})
            await there.rig.inbox.expect(lambda event: isinstance(event, TrafficSampled))
            async with grpc.aio.insecure_channel(f"127.0.0.1:{there.port}") as channel:
                call = channel.unary_unary("/demo.Echo/Unary")
                for status in ("NOT_FOUND", "INVALID_ARGUMENT", "INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAVAILABLE"):
                    with pytest.raises(grpc.aio.AioRpcError) as error:
                        await call(status.encode())
                    assert error.value.code() is grpc.StatusCode[status]
            found = await counted(there, meter, 0, 6)
            assert (found[1].requests, found[1].errors) == (6, 4)
            task.cancel()
            await server.stop(None)

    asyncio.run(main())


def test_a_tenth_of_the_requests_is_a_tenth_and_a_header_chooses() -> None:
    async def main() -> None:
        revisions = (1, 1, 1, 2)
        async with web(revisions) as there:
            ids = list(there.replicas)
            plain = [replace(there.replicas[i].endpoint, revision=r) for i, r in zip(ids, revisions, strict=True)]
            there.rig.route("web", plain)
            before = there.rig.snapshot()
            await there.rig.apply()
            assert len(await there.ask("/x", 60)) == 4

            of_new, of_old = weights(10, new=1, old=3)
            there.rig.route("web", [replace(one, weight=of_new if one.revision == 2 else of_old) for one in plain])
            compiled = there.rig.static
            there.rig.static = dict(with_canaries(compiled, {"web": Canary(new=2, old=1)}))
            await there.rig.apply()
            answers = await there.ask("/x", 2400, concurrency=24)
            assert 0.08 < answers["web-r4"] / answers.total() < 0.12, answers
            for door in ("", "gateway"):
                assert await there.ask("/x", 30, x_canary="always", by=door) == {"web-r4": 30}
                answers = await there.ask("/x", 30, x_canary="never", by=door)
                assert answers.keys() == set(ids[:3]), answers
            assert (await there.ask("/x", 200, x_canary="maybe")).keys() == set(ids)
            # A tester whose revision has no replica gets another one rather than nothing.
            there.rig.route("web", plain[:3])
            await there.rig.apply()
            assert (await there.ask("/x", 30, x_canary="always")).total() == 30

            there.rig.route("web", plain)
            there.rig.static = compiled
            await there.rig.apply()
            assert serialised(there.rig.snapshot()) == serialised(before)
            assert len(await there.ask("/x", 60, x_canary="always")) == 4

    asyncio.run(main())


def serialised(snapshot: Snapshot) -> dict[str, bytes]:
    return {
        f"{kind} {name}": message.SerializeToString(deterministic=True)
        for kind, messages in snapshot.resources.items()
        for name, message in messages.items()
    }
