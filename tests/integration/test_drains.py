"""What a real Envoy tells of a replica that drains, and whom it sends requests to meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from shoal.mesh.endpoints import Endpoint
from shoal.model.app import App, Command, Protocol, Service
from shoal.model.event import RequestsUnderWay
from shoal.ports import Drained
from shoal.xds.drains import Drains
from tests.support.envoy import Rig, WallClock, rig
from tests.support.http import Connection
from tests.support.port import free_port
from tests.support.replica import replica

pytestmark = pytest.mark.integration


def service(name: str, port: int, protocol: Protocol = Protocol.HTTP) -> Service:
    workload = Command(argv=("serve",))
    return Service(name=name, workload=workload, folder="/app", port=port, publish=True, protocol=protocol)


def drained(*names: str, endpoints: Sequence[Endpoint] = (), of: str = "web") -> list[Drained]:
    """Of these the listed ones."""
    listed = {e.replica: frozenset([str(e.address).removeprefix("unix:")]) for e in endpoints if e.draining}
    return [Drained(replica=name, service=of, addresses=listed.get(name, frozenset())) for name in names]


async def told(made: Rig, counts: dict[str, int]) -> None:
    since = len(made.inbox.events)
    wanted = tuple(sorted(counts.items()))
    await made.inbox.expect(lambda e: isinstance(e, RequestsUnderWay) and e.counts == wanted, since=since)


def test_a_draining_replica_gets_nothing_new_and_its_requests_are_counted_to_their_end() -> None:
    async def main() -> None:
        port = free_port()
        async with rig(App(name="shop", services=(service("web", port),))) as made:  # noqa: SIM117 - they need its folder
            async with (
                replica("web-r1", made.folder / "1.sock") as old,
                replica("web-r2", made.folder / "2.sock") as older,
                replica("web-r3", made.folder / "3.sock") as new,
            ):
                meter = Drains(made.inbox, WallClock(), [made.admin_socket, made.folder / "none.sock"])
                async with asyncio.TaskGroup() as tasks:
                    running = tasks.create_task(meter.run())
                    made.route("web", [old.endpoint, older.endpoint])
                    await made.apply()
                    clients = [Connection("127.0.0.1", port, timeout_s=30) for _ in range(4)]
                    hanging = [tasks.create_task(c.exchange("GET", "/hang", b"", {})) for c in clients]
                    await made.until(lambda: len(old.requests) + len(older.requests) == 4, "four under way")
                    under_way = {"web-r1": len(old.requests), "web-r2": len(older.requests)}

                    # A third of its replicas healthy: in one priority Envoy would panic, and use all of them.
                    leaving = [replace(one.endpoint, draining=True) for one in (old, older)]
                    made.route("web", [*leaving, new.endpoint])
                    await made.apply()
                    meter.watch(drained("web-r1", "web-r2", endpoints=leaving))
                    await told(made, under_way)
                    fresh = Connection("127.0.0.1", port, timeout_s=20)
                    answers = [await fresh.exchange("GET", "/", b"", {}) for _ in range(30)]
                    assert {a.headers["x-shoal-replica"] for a in answers} == {"web-r3"}
                    old.release.set()
                    await told(made, {**under_way, "web-r1": 0})

                    # Nobody is ready: what is counted of the service is theirs.
                    new.requests.clear()
                    made.route("web", [])
                    await made.apply()
                    meter.watch(drained("web-r2"))
                    await told(made, {"web-r2": under_way["web-r2"]})
                    assert (await fresh.exchange("GET", "/", b"", {})).status == 503
                    older.release.set()
                    await told(made, {"web-r2": 0})
                    assert [(await one).status for one in hanging] == [200] * 4
                    for client in (*clients, fresh):
                        client.close()
                    running.cancel()

    asyncio.run(main())


def test_a_connection_of_bytes_counts_as_under_way_until_it_is_closed() -> None:
    async def main() -> None:
        port = free_port()
        async with rig(App(name="shop", services=(service("web", port, Protocol.TCP),))) as made:  # noqa: SIM117 - they need its folder
            async with (
                replica("web-r1", made.folder / "1.sock") as old,
                replica("web-r2", made.folder / "2.sock") as new,
            ):
                meter = Drains(made.inbox, WallClock(), [made.admin_socket])
                async with asyncio.TaskGroup() as tasks:
                    running = tasks.create_task(meter.run())
                    made.route("web", [old.endpoint])
                    await made.apply()
                    client = Connection("127.0.0.1", port, timeout_s=20)
                    assert (await client.exchange("GET", "/", b"", {})).status == 200
                    leaving = [replace(old.endpoint, draining=True)]
                    made.route("web", [*leaving, new.endpoint])
                    await made.apply()
                    meter.watch(drained("web-r1", endpoints=leaving))
                    await told(made, {"web-r1": 1})
                    client.close()
                    await told(made, {"web-r1": 0})
                    running.cancel()

    asyncio.run(main())
