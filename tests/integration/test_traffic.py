"""A real Envoy under traffic policies: what callers see, and what reaches the replicas."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from shoal.model.app import App, Command, Gateway, Protocol, Route, Service
from shoal.model.traffic import Balance, Breaker, Choice, Fault, Limit, Policy
from tests.support.envoy import Rig, rig
from tests.support.http import Answer, Connection
from tests.support.port import free_port
from tests.support.replica import Replica, replica

pytestmark = pytest.mark.integration


@dataclass
class Bench:
    rig: Rig
    app: App
    replicas: list[Replica]

    def where(self, service: str, caller: str = "") -> tuple[str, int]:
        """Of the published port, or of a caller's edge."""
        port = self.app.service(service).port
        assert port is not None and self.rig.edges is not None
        return (self.rig.edges.address(caller, service) if caller else "127.0.0.1"), port

    async def change(self, name: str, policy: Policy) -> None:
        """Another policy for a service; nothing else changes."""
        services = tuple(replace(s, traffic=policy) if s.name == name else s for s in self.app.services)
        await self.deploy(replace(self.app, services=services))

    async def deploy(self, app: App) -> None:
        self.app = app
        self.rig.deploy(app)
        await self.rig.apply()

    async def ask(
        self, service: str, path: str = "/", *, caller: str = "", method: str = "GET", **headers: str
    ) -> Answer:
        return await ask(self.where(service, caller), path, method=method, **headers)

    def reached(self, path: str) -> int:
        """How many requests for it replicas got."""
        return sum(path == one for each in self.replicas for _, one in each.requests)


async def ask(where: tuple[str, int], path: str = "/", *, method: str = "GET", **headers: str) -> Answer:
    """Over a connection of its own."""
    connection = Connection(*where, timeout_s=20)
    try:
        return await connection.exchange(method, path, b"", {k.replace("_", "-"): v for k, v in headers.items()})
    finally:
        connection.close()


def service(name: str, *, port: int | None = None, **fields: Any) -> Service:
    port = free_port() if port is None else port
    return Service(name=name, workload=Command(argv=("x",)), folder="/", port=port, publish=True, **fields)


@asynccontextmanager
async def bench(*services: Service, replicas: int = 1, routes: Sequence[Route] = ()) -> AsyncIterator[Bench]:
    """Each service has so many replicas, that are the same for all."""
    gateway = Gateway(port=free_port(), routes=tuple(routes)) if routes else None
    app = App(name="app", services=services, gateway=gateway)
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(rig())
        made.options = replace(made.options, doors=str(made.folder))
        made.deploy(app)
        there = [await stack.enter_async_context(replica(f"r{n}", made.folder / f"{n}.sock")) for n in range(replicas)]
        for one in services:
            made.route(one.name, [each.endpoint for each in there])
        await made.apply()
        yield Bench(made, app, there)


def problem(answer: Answer) -> Any:
    assert answer.headers["content-type"] == "application/problem+json", answer
    return json.loads(answer.body)


def test_a_service_and_an_edge_have_their_own_time_outs_and_retries() -> None:
    async def main() -> None:
        slow = service("slow", traffic=Policy(timeout_s=0.4, retries=2))
        callers = [
            service("hurried", calls=("slow",), edges=(("slow", Policy(timeout_s=0.1, retries=0)),)),
            service("plain", calls=("slow",)),
        ]
        async with bench(slow, *callers) as made:
            for caller, limit, tries in (("", "400ms", 3), ("plain", "400ms", 3), ("hurried", "100ms", 1)):
                made.replicas[0].requests.clear()
                answer = await made.ask("slow", "/hang", caller=caller)
                said = problem(answer)
                assert (answer.status, said["code"]) == (504, "timeout")
                assert said["detail"] == f"slow did not answer within {limit}"
                assert made.reached("/hang") == tries, caller  # the first, and one at each third of the time-out
            made.replicas[0].requests.clear()
            answer = await made.ask("slow", "/hang", method="POST")
            assert (answer.status, made.reached("/hang")) == (504, 1)
            grpc = await made.ask(
                "slow", "/hang", caller="hurried", content_type="application/grpc", grpc_timeout="100m"
            )
            assert grpc.headers["grpc-status"] in ("4", "14")
            assert "x-shoal-caller" not in json.loads((await made.ask("slow", caller="hurried")).body)["headers"]
            # A change takes effect on connections that are open, and drains none.
            connection = Connection(*made.where("slow"), timeout_s=20)
            assert (await connection.exchange("GET", "/x", b"", {})).status == 200
            await made.change("slow", Policy(timeout_s=0.05))
            assert "within 50ms" in problem(await connection.exchange("GET", "/hang", b"", {}))["detail"]
            assert connection.usable
            connection.close()

    asyncio.run(main())


def test_a_slow_answer_still_counts_when_others_were_asked_meanwhile() -> None:
    async def main() -> None:
        async with bench(service("web", traffic=Policy(timeout_s=30.0, per_try_timeout_s=0.1)), replicas=3) as made:
            asked = asyncio.create_task(made.ask("web", "/hang"))
            while made.reached("/hang") < 3:  # noqa: ASYNC110  what is asked lies outside this process
                await asyncio.sleep(0.01)
            first = next(each for each in made.replicas if each.requests)
            for each in made.replicas:
                each.release.set()
            assert (await asked).status == 200, first

    asyncio.run(main())


def test_a_saturated_service_is_refused_at_once_and_recovers_by_itself() -> None:
    async def main() -> None:
        narrow = service("narrow", traffic=Policy(breaker=Breaker(requests=2)))
        own = (("narrow", Policy(breaker=Breaker(requests=1))),)
        async with bench(narrow, service("small", calls=("narrow",), edges=own)) as made:
            held = []
            for count in (1, 2):
                held.append(asyncio.create_task(made.ask("narrow", "/hang", method="POST")))
                await made.rig.until(lambda n=count: made.reached("/hang") == n, "one more under way")  # type: ignore[misc]
            took = []
            for _ in range(20):
                began = time.perf_counter()
                answer = await made.ask("narrow", "/x", method="POST")
                took.append(time.perf_counter() - began)
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert problem(answer)["code"] == "breaker-open"
                assert "the breaker is open" in problem(answer)["detail"]
            print(f"refused in {sorted(took)[len(took) // 2] * 1000:.1f} ms")
            # The breaker of an edge is that caller's alone.
            assert (await made.ask("narrow", "/x", caller="small")).status == 200
            made.replicas[0].release.set()
            assert {(await each).status for each in held} == {200}
            assert (await made.ask("narrow", "/x", method="POST")).status == 200

    asyncio.run(main())


def test_a_limit_is_one_for_all_callers_and_the_gateway() -> None:
    async def main() -> None:
        limited = service("limited", traffic=Policy(limit=Limit(requests=30, per_s=3600.0, burst=12)))
        own = (("free", Policy(limit=Limit(requests=1, per_s=60.0, burst=2))),)
        callers = [service("caller", calls=("limited", "free"), edges=own), service("other", calls=("free",))]
        routes = (Route(service="limited", path="/limited", rewrite="/"), Route(service="free", path="/free"))
        async with bench(limited, service("free"), *callers, routes=routes) as made:
            assert made.app.gateway is not None
            gateway = ("127.0.0.1", made.app.gateway.port)
            statuses = Counter[int]()
            for _ in range(6):
                for answer in (
                    await made.ask("limited", "/x"),
                    await made.ask("limited", "/x", caller="caller"),
                    await ask(gateway, "/limited/x"),
                ):
                    statuses[answer.status] += 1
                    if answer.status == 429:
                        assert problem(answer)["code"] == "limited"
                        assert answer.headers["retry-after"] == "120"
            assert statuses == {200: 12, 429: 6}
            assert made.reached("/x") == 12
            grpc = await made.ask("limited", "/x", content_type="application/grpc")
            assert grpc.headers["grpc-status"] == "8"  # RESOURCE_EXHAUSTED
            of_edge = [(await made.ask("free", caller="caller")).status for _ in range(4)]
            assert of_edge == [200, 200, 429, 429]
            for other in (await made.ask("free", caller="other"), await made.ask("free"), await ask(gateway, "/free")):
                assert other.status == 200

    asyncio.run(main())


def test_equal_keys_stay_on_one_replica_and_go_elsewhere_when_it_dies() -> None:
    async def main() -> None:
        by_cookie = Policy(balance=Balance(choice=Choice.RING_HASH, cookie="cart"))
        by_header = Policy(balance=Balance(choice=Choice.RING_HASH, header="x-user"))
        in_turn = Policy(balance=Balance(choice=Choice.ROUND_ROBIN))
        many = (
            service("carts", traffic=by_cookie),
            service("users", traffic=by_header),
            service("turn", traffic=in_turn),
        )
        async with bench(*many, replicas=3) as made:
            found = set()
            for number in range(12):
                first = await made.ask("carts")
                cookie = first.headers["set-cookie"].partition(";")[0]
                assert cookie.startswith("cart=")
                again = {(await made.ask("carts", cookie=cookie)).headers["x-shoal-replica"] for _ in range(4)}
                assert again == {first.headers["x-shoal-replica"]}
                user = {(await made.ask("users", x_user=f"u{number}")).headers["x-shoal-replica"] for _ in range(4)}
                assert len(user) == 1
                found |= user
            assert len(found) > 1
            turns = Counter([(await made.ask("turn")).headers["x-shoal-replica"] for _ in range(12)])
            assert set(turns) == {"r0", "r1", "r2"}
            # Its replica fails: the request is tried on another one, whatever the key says.
            home = (await made.ask("users", x_user="eve")).headers["x-shoal-replica"]
            next(each for each in made.replicas if each.id == home).fail_next = 1
            answer = await made.ask("users", x_user="eve")
            assert (answer.status, answer.headers["x-shoal-replica"] != home) == (200, True)

    asyncio.run(main())


def test_faults_are_what_they_say_and_end_with_the_key() -> None:
    async def main() -> None:
        broken = service("broken", traffic=Policy(fault=Fault(abort=418, percent=100.0)))
        spared = service("spared", calls=("broken",), edges=(("broken", Policy(fault=Fault(percent=0.0))),))
        half = service("half", traffic=Policy(fault=Fault(abort=503, delay_s=0.001, percent=50.0), retries=0))
        async with bench(broken, spared, half) as made:
            answer = await made.ask("broken")
            said = problem(answer)
            assert (answer.status, said["status"], said["code"]) == (418, 418, "fault-injected")
            assert (await made.ask("broken", caller="spared")).status == 200
            statuses = Counter([(await made.ask("half")).status for _ in range(200)])
            assert 50 < statuses[503] < 150 and statuses[200] + statuses[503] == 200
            await made.change("broken", Policy())
            assert (await made.ask("broken")).status == 200

    asyncio.run(main())


def test_a_tcp_service_counts_its_connections() -> None:
    async def main() -> None:
        narrow = service("narrow", protocol=Protocol.TCP, traffic=Policy(breaker=Breaker(connections=1)))
        async with bench(narrow) as made:
            where = made.where("narrow")
            first = Connection(*where, timeout_s=20)
            assert (await first.exchange("GET", "/x", b"", {})).status == 200
            reader, writer = await asyncio.open_connection(*where)
            async with asyncio.timeout(20):
                assert await reader.read(1) == b""  # closed at once
            writer.close()
            assert (await first.exchange("GET", "/x", b"", {})).status == 200
            first.close()

    asyncio.run(main())


def test_where_every_replica_fails_retries_add_little_to_the_load() -> None:
    """200 connections that ask again at once. With a budget of 25 % it was 1.31 times."""

    async def main() -> None:
        async with bench(service("failing"), replicas=3) as made:
            for each in made.replicas:
                each.fail_next = 1_000_000
            sent = 0

            async def client() -> None:
                nonlocal sent
                connection = Connection(*made.where("failing"), timeout_s=20)
                while sent < 5000:  # all of them to the end: the budget's floor is much for a few
                    sent += 1
                    assert (await connection.exchange("GET", "/slow/503", b"", {})).status == 503
                connection.close()

            await asyncio.gather(*(client() for _ in range(200)))
            reached = made.reached("/slow/503")
            print(f"{reached} requests at the replicas for {sent}: {reached / sent:.3f} times")
            assert sent <= reached <= 1.3 * sent

    asyncio.run(main())
