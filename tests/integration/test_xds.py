"""A real Envoy on a real XdsServer: what is sent, what is confirmed, what is refused, and what survives."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from envoy.config.route.v3 import route_components_pb2, route_pb2

from shoal.mesh.snapshot import CLUSTER, LISTENER, ROUTES
from shoal.model.app import App, Command, Gateway, Route, Service
from shoal.model.event import SnapshotApplied
from tests.support.envoy import Rig, rig
from tests.support.http import Connection
from tests.support.port import free_port
from tests.support.replica import Replica, replica

pytestmark = pytest.mark.integration


def app(*services: tuple[str, int], gateway: int | None = None) -> App:
    """Published services, each behind the gateway at `/<name>`."""
    made = tuple(
        Service(name=name, workload=Command(argv=("serve",)), folder="/app", port=port, publish=True)
        for name, port in services
    )
    routes = tuple(Route(service=name, path=f"/{name}") for name, _ in services)
    return App(name="test", services=made, gateway=Gateway(port=gateway, routes=routes) if gateway else None)


def with_replicas(body: Callable[[Rig, int, list[Replica]], Awaitable[None]]) -> None:
    """Service `web` on a free port with three replicas."""

    async def main() -> None:
        port = free_port()
        async with AsyncExitStack() as stack:
            made = await stack.enter_async_context(rig(app(("web", port))))
            replicas = [
                await stack.enter_async_context(replica(f"web-r{n}", made.folder / f"{n}.sock")) for n in (1, 2, 3)
            ]
            made.route("web", [r.endpoint for r in replicas])
            await made.apply()
            await body(made, port, replicas)

    asyncio.run(main())


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Load:
    """Requests one after the other, until it is told to end."""

    def __init__(self, port: int) -> None:
        self.answers: list[int] = []
        self.failures: list[str] = []
        self._connection = Connection("127.0.0.1", port, timeout_s=10)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                answer = await self._connection.exchange("GET", "/x", b"", {})
            except Exception as error:
                self.failures.append(repr(error))
                continue
            self.answers.append(answer.status)

    async def more(self, count: int) -> None:
        """Waits for that many more answers."""
        wanted = len(self.answers) + count
        async with asyncio.timeout(30):
            while len(self.answers) + len(self.failures) < wanted:  # noqa: ASYNC110  the load is a task of its own
                await asyncio.sleep(0.005)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._connection.close()
        assert not self.failures
        assert set(self.answers) == {200}


def test_a_control_plane_that_comes_back_sends_nothing_and_loses_nothing() -> None:
    async def body(made: Rig, port: int, replicas: list[Replica]) -> None:
        load = Load(port)
        await load.more(50)
        listeners = await made.stat("listener_manager.listener_modified")
        for _ in range(2):
            since = len(made.inbox.events)
            server = await made.restart_server()
            await load.more(50)  # without any control plane
            assert not made.xds_socket.exists(), "the socket is open before there is anything to say"
            snapshot = made.snapshot()
            server.publish(snapshot)
            await made.applied(snapshot.version, since=since)
            assert server.sent_resources == 0
        await load.more(50)
        assert await made.stat("listener_manager.listener_modified") == listeners
        await load.end()

    with_replicas(body)


def test_no_request_reaches_a_replica_after_its_removal_is_confirmed() -> None:
    async def body(made: Rig, port: int, replicas: list[Replica]) -> None:
        load = Load(port)
        await load.more(100)
        assert all(one.requests for one in replicas)
        gone = replicas.pop()
        made.route("web", [one.endpoint for one in replicas])
        await made.apply()
        await asyncio.sleep(0.05)  # Envoy's workers learn of it a moment after its main thread
        before = len(gone.requests)
        await load.more(200)
        assert len(gone.requests) == before
        await load.end()

    with_replicas(body)


def test_deploys_and_changed_clusters_under_load_lose_nothing() -> None:
    async def body(made: Rig, port: int, replicas: list[Replica]) -> None:
        load = Load(port)
        for n in range(5):
            made.deploy(app(("web", port), (f"other{n}", free_port()), gateway=None))
            made.static[CLUSTER]["web"].connect_timeout.seconds = 2 + n
            await made.apply()
            await load.more(20)
        await load.end()
        assert await made.stat("listener_manager.listener_modified") == 0

    with_replicas(body)


def test_a_taken_port_is_refused_by_name_and_the_others_serve_and_it_is_bound_when_it_is_free() -> None:
    async def main() -> None:
        free, taken = free_port(), free_port()
        with socket.socket() as owner:
            owner.bind(("127.0.0.1", taken))
            owner.listen()
            async with rig(app(("web", free), ("late", taken))) as made, replica("web-r1") as web:
                made.route("web", [web.endpoint])
                made.route("late", [web.endpoint])
                since = len(made.inbox.events)
                snapshot = made.snapshot()
                made.server.publish(snapshot)
                rejected = await made.rejected(f"publish.late.{taken}")
                assert rejected.kind == "Listener"
                assert "Address already in use" in rejected.message
                await made.applied(snapshot.version)
                load = Load(free)
                await load.more(10)
                await load.end()
                owner.close()
                event = await made.inbox.expect(
                    lambda e: isinstance(e, SnapshotApplied) and not e.rejected, since=since + 1
                )
                assert isinstance(event, SnapshotApplied)
                load = Load(taken)
                await load.more(10)
                await load.end()

    asyncio.run(main())


def test_bad_routes_are_refused_alone_and_mended_by_the_next_snapshot() -> None:
    async def main() -> None:
        ports = {name: free_port() for name in ("a", "b", "gateway")}
        good = app(("a", ports["a"]), ("b", ports["b"]), gateway=ports["gateway"])
        async with rig(good) as made, replica("a-r1") as one, replica("b-r1") as two:
            made.route("a", [one.endpoint])
            made.route("b", [two.endpoint])
            bad = route_components_pb2.VirtualHost(name="bad", domains=["*", "*"])
            made.static[ROUTES]["gateway"] = route_pb2.RouteConfiguration(name="gateway", virtual_hosts=[bad])
            await made.apply()
            rejected = await made.rejected("gateway")
            assert (rejected.kind, "domain" in rejected.message.lower()) == ("RouteConfiguration", True)
            load = Load(ports["b"])
            await load.more(10)
            await load.end()
            made.deploy(good)
            await made.apply()
            connection = Connection("127.0.0.1", ports["gateway"], timeout_s=10)
            answer = await connection.exchange("GET", "/b", b"", {})
            connection.close()
            assert answer.headers["x-shoal-replica"] == "b-r1"
            applied = [e for e in made.inbox.events if isinstance(e, SnapshotApplied)]
            assert applied[-1].rejected == ()

    asyncio.run(main())


def test_a_service_that_is_removed_is_gone_from_envoy_and_can_come_back() -> None:
    async def main() -> None:
        ports = {name: free_port() for name in ("a", "b")}
        async with rig(app(("a", ports["a"]))) as made, replica("a-r1") as one, replica("b-r1") as two:
            made.route("a", [one.endpoint])
            await made.apply()
            for _ in range(2):
                made.route("b", [two.endpoint])
                made.deploy(app(("a", ports["a"]), ("b", ports["b"])))
                await made.apply()
                load = Load(ports["b"])
                await load.more(5)
                await load.end()
                made.route("b", [])
                made.deploy(app(("a", ports["a"])))
                await made.apply()
            assert f"publish.b.{ports['b']}" not in made.static[LISTENER]
            await made.until(lambda: not accepts(ports["b"]), "the port to be closed by Envoy's workers")

    asyncio.run(main())


def test_an_envoy_that_starts_anew_is_given_everything() -> None:
    async def body(made: Rig, port: int, replicas: list[Replica]) -> None:
        since = len(made.inbox.events)
        await made.stop_envoy()
        await made.start_envoy()
        await made.applied(made.version, since=since)
        load = Load(port)
        await load.more(10)
        await load.end()

    with_replicas(body)


def test_one_endpoint_change_sends_one_resource() -> None:
    async def body(made: Rig, port: int, replicas: list[Replica]) -> None:
        before = made.server.sent_resources
        made.route("web", [replicas[0].endpoint])
        await made.apply()
        assert made.server.sent_resources == before + 1

    with_replicas(body)
