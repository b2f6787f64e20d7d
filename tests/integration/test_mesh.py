"""A real Envoy on what the mesh compiles: doors, edges, denials, and its own words when a service cannot answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from shoal.model.app import App, Command, Gateway, Route, Service
from shoal.model.event import CallDenied
from shoal.model.traffic import NOTHING, Policy
from shoal.xds.admin import admin_get, requests_under_way
from tests.support.envoy import Rig, rig
from tests.support.port import free_port
from tests.support.replica import Replica, replica

pytestmark = pytest.mark.integration

JSON = "application/problem+json"


@dataclass
class Shop:
    rig: Rig
    users: Replica
    products: Replica
    ports: dict[str, int]

    def edge(self, caller: str, callee: str) -> str:
        assert self.rig.edges is not None
        return self.rig.edges.address(caller, callee)


def service(name: str, port: int | None, **fields: Any) -> Service:
    values = {"workload": Command(argv=("serve",)), "folder": "/app", "publish": True} | fields
    return Service(name=name, port=port, **values)


def shop_app(ports: dict[str, int], policy: Policy) -> App:
    return App(
        name="shop",
        services=(
            service("users", ports["users"], traffic=policy),
            service("products", ports["products"]),
            service("carts", ports["carts"], calls=("products",)),
        ),
        gateway=Gateway(
            port=ports["gateway"],
            routes=(
                Route(service="users", path="/users"),
                Route(service="products", path="/users/favourites"),
                Route(service="products", path="/", host="products.test"),
            ),
        ),
    )


def with_shop(body: Callable[[Shop], Awaitable[None]], *, policy: Policy = NOTHING) -> None:
    """Runs it on a shop whose users and products have one replica each, and whose carts has none."""

    async def main() -> None:
        ports = {name: free_port() for name in ("users", "products", "carts", "gateway")}
        async with AsyncExitStack() as stack:
            made = await stack.enter_async_context(rig(shop_app(ports, policy)))
            users = await stack.enter_async_context(replica("users-r1", made.folder / "u1.sock"))
            products = await stack.enter_async_context(replica("products-r1"))
            made.route("users", [users.endpoint])
            made.route("products", [products.endpoint])
            await made.apply()
            await body(Shop(made, users, products, ports))

    asyncio.run(main())


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def curl(url: str, *options: str) -> Answer:
    """What curl got; status 0: nothing."""
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--include", "--max-time", "10", *options, url, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if not out:
        return Answer(0, {}, b"")
    head, _, body = out.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Answer(int(lines[0].split()[1]), headers, body)


def test_a_published_port_serves_on_both_loopbacks_and_says_which_replica_answered() -> None:
    async def body(shop: Shop) -> None:
        for host in ("127.0.0.1", "[::1]"):
            answer = await curl(f"http://{host}:{shop.ports['users']}/x")
            assert answer.status == 200
            assert answer.json["path"] == "/x"
            assert answer.headers["x-shoal-replica"] == "users-r1"
            assert answer.headers["server"] == "tiny"

    with_shop(body)


def test_nothing_that_a_client_claims_about_itself_reaches_a_service() -> None:
    async def body(shop: Shop) -> None:
        claims = ["x-shoal-caller: root", "x-forwarded-for: 9.9.9.9", "x-forwarded-proto: https", "forwarded: for=9"]
        claims += ["x-real-ip: 9.9.9.9", "x-envoy-retry-on: 5xx", "x-envoy-upstream-rq-timeout-ms: 1"]
        headers = [word for claim in claims for word in ("--header", claim)]
        answer = await curl(f"http://127.0.0.1:{shop.ports['users']}/x", *headers)
        seen = answer.json["headers"]
        assert not {name for name in seen if name.startswith(("x-shoal-caller", "x-envoy-retry", "x-envoy-upstream"))}
        assert "9.9.9.9" not in json.dumps(seen)
        assert seen["x-forwarded-proto"] == "http"
        assert not {"forwarded", "x-real-ip"} & seen.keys()

    with_shop(body)


def test_a_service_hears_how_long_its_caller_waits_unless_it_is_a_stream() -> None:
    async def body(shop: Shop) -> None:
        outside = f"http://127.0.0.1:{shop.ports['products']}/x"
        inside = ("--resolve", f"products:{shop.ports['products']}:{shop.edge('carts', 'products')}")
        said = ("--header", "x-shoal-deadline: 800", "--header", "x-shoal-deadlines: 1", "--header", "x-shoal-dead: 1")

        async def seen(*options: str, url: str = outside) -> dict[str, str]:
            headers = (await curl(url, *options)).json["headers"]
            return {name: value for name, value in headers.items() if name.startswith("x-shoal-dead")}

        assert await seen() == {"x-shoal-deadline": "15000"}
        assert await seen(*said) == {"x-shoal-deadline": "15000"}  # nobody outside knows of it
        assert await seen(*inside, *said, url=f"http://products:{shop.ports['products']}/x") == {
            "x-shoal-deadline": "800"
        }
        assert await seen("--header", "accept: text/event-stream") == {}

    with_shop(body)


def test_the_gateway_goes_by_whole_path_segments_the_longest_path_and_the_host_first() -> None:
    async def body(shop: Shop) -> None:
        url = f"http://127.0.0.1:{shop.ports['gateway']}"
        for path, host, wanted in (
            ("/users", None, "users-r1"),
            ("/users/7", None, "users-r1"),
            ("/users?page=2", None, "users-r1"),
            ("/users/favourites/3", None, "products-r1"),
            ("/users/favouritesx", None, "users-r1"),
            ("/users", "products.test", "products-r1"),
            ("/anything", "products.test", "products-r1"),
            ("/anything", "Products.Test:9", "products-r1"),
        ):
            answer = await curl(url + path, *(("--header", f"host: {host}") if host else ()))
            assert answer.headers.get("x-shoal-replica") == wanted, (path, host, answer)
        for path in ("/users2", "/", "/products"):
            answer = await curl(url + path)
            assert (answer.status, answer.headers["content-type"]) == (404, JSON)
            assert answer.json["code"] == "no-route"
            assert answer.json["way_out"] == "known paths: /users/favourites, /users"

    with_shop(body)


def test_an_edge_leads_to_its_callee() -> None:
    async def body(shop: Shop) -> None:
        port = shop.ports["products"]
        url = f"http://products:{port}/x"
        answer = await curl(url, "--resolve", f"products:{port}:{shop.edge('carts', 'products')}")
        assert answer.headers["x-shoal-replica"] == "products-r1"
        assert answer.json["headers"]["host"] == f"products:{port}"

    with_shop(body)


def test_a_call_that_is_not_declared_gets_the_line_to_add_and_is_told_once() -> None:
    async def body(shop: Shop) -> None:
        port, address = shop.ports["users"], shop.edge("carts", "users")
        named = ("--resolve", f"users:{port}:{address}")
        for _ in range(3):
            answer = await curl(f"http://users:{port}/x", *named)
            assert (answer.status, answer.headers["content-type"]) == (403, JSON)
            assert answer.json == {
                "type": "urn:shoal:error:call-denied",
                "title": "Call denied",
                "status": 403,
                "detail": "carts may not call users: it is not declared",
                "code": "call-denied",
                "way_out": "add it in shoal.yaml: services.carts.calls: [products, users]",
            }
        grpc = await curl(f"http://users:{port}/x", *named, "--header", "content-type: application/grpc")
        assert (grpc.status, grpc.headers["grpc-status"]) == (200, "7")
        assert grpc.headers["grpc-message"].startswith("carts may not call users: it is not declared; add it in")
        for host in (address, "some.thing.else"):
            answer = await curl(f"http://{address}:{port}/", "--header", f"host: {host}")
            assert (answer.status, answer.json["code"]) == (403, "call-denied")
        event = await shop.rig.inbox.expect(lambda e: isinstance(e, CallDenied))
        assert isinstance(event, CallDenied)
        assert (event.caller, event.callee, event.port) == ("carts", "users", port)
        assert shop.users.requests == []
        assert [e for e in shop.rig.inbox.events if isinstance(e, CallDenied)] == [event]

    with_shop(body)


def test_the_mesh_socket_leads_to_every_service_by_name() -> None:
    async def body(shop: Shop) -> None:
        through = ("--unix-socket", str(shop.rig.mesh_socket))
        for host in ("users", "users:3000"):
            answer = await curl(f"http://{host}/x", *through)
            assert answer.headers["x-shoal-replica"] == "users-r1"
        unknown = await curl("http://user/x", *through)
        assert (unknown.status, unknown.json["code"]) == (404, "no-such-service")
        assert "users, products, carts" in unknown.json["way_out"]

    with_shop(body)


def test_a_service_without_a_ready_replica_is_named_and_grpc_is_answered_in_grpc() -> None:
    async def body(shop: Shop) -> None:
        url = f"http://127.0.0.1:{shop.ports['carts']}/x"
        answer = await curl(url)
        assert (answer.status, answer.headers["content-type"]) == (503, JSON)
        assert answer.json["code"] == "no-ready-replica"
        assert answer.json["detail"] == "carts has no ready replica"
        grpc = await curl(url, "--header", "content-type: application/grpc")
        assert (grpc.status, grpc.headers["grpc-status"]) == (200, "14")
        assert grpc.headers["grpc-message"].startswith("carts has no ready replica")

    with_shop(body)


def test_a_replica_that_drops_the_connection_is_named() -> None:
    async def body(shop: Shop) -> None:
        answer = await curl(f"http://127.0.0.1:{shop.ports['users']}/drop", "--request", "POST")
        assert (answer.status, answer.json["code"]) == (503, "connection-lost")
        assert answer.json["detail"] == "users closed the connection before it answered (tried 1x)"

    with_shop(body)


def test_http_1_0_is_served() -> None:
    async def body(shop: Shop) -> None:
        assert (await curl(f"http://127.0.0.1:{shop.ports['users']}/x", "--http1.0")).status == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.ports["users"])
        writer.write(b"GET /x HTTP/1.0\r\n\r\n")  # without a Host header
        head = await asyncio.wait_for(reader.read(15), 10)
        writer.close()
        await writer.wait_closed()
        assert head.endswith(b" 200 OK")

    with_shop(body)


def test_what_is_idempotent_is_tried_again_and_nothing_else_is() -> None:
    async def body(shop: Shop) -> None:
        url = f"http://127.0.0.1:{shop.ports['users']}/x"
        for options, tries, status in (
            ((), 2, 200),
            (("--request", "DELETE"), 2, 200),
            (("--request", "POST"), 1, 503),
            (("--request", "POST", "--header", "idempotency-key: 1"), 2, 200),
        ):
            shop.users.requests.clear()
            shop.users.fail_next = 1
            answer = await curl(url, *options)
            shop.users.fail_next = 0
            assert (answer.status, len(shop.users.requests)) == (status, tries), options

    with_shop(body)


def test_an_event_stream_arrives_piece_by_piece_and_counts_as_under_way() -> None:
    async def body(shop: Shop) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.ports["users"])
        writer.write(b"GET /sse HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"data: 1\n\n"), 10)
        assert (await requests_under_way(shop.rig.admin_socket)).get("users") == 1
        shop.users.release.set()
        await asyncio.wait_for(reader.readuntil(b"data: 2\n\n"), 10)
        writer.close()
        await writer.wait_closed()

    with_shop(body)


def test_a_request_ends_at_its_time_out_and_a_stream_does_not() -> None:
    async def body(shop: Shop) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.ports["users"])
        writer.write(b"GET /sse HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"data: 1\n\n"), 10)
        answer = await curl(f"http://127.0.0.1:{shop.ports['users']}/hang")  # begun later, and over before
        assert (answer.status, answer.headers["content-type"], answer.json["code"]) == (504, JSON, "timeout")
        assert answer.json["detail"] == "users did not answer within 300ms"
        shop.users.release.set()
        await asyncio.wait_for(reader.readuntil(b"data: 2\n\n"), 10)
        writer.close()
        await writer.wait_closed()

    with_shop(body, policy=Policy(timeout_s=0.3))


def test_http_2_without_tls_is_served() -> None:
    async def body(shop: Shop) -> None:
        answer = await curl(f"http://127.0.0.1:{shop.ports['users']}/x", "--http2-prior-knowledge")
        assert (answer.status, answer.json["replica"]) == (200, "users-r1")

    with_shop(body)


def test_a_websocket_is_upgraded() -> None:
    async def body(shop: Shop) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.ports["users"])
        writer.write(
            b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\r\n"
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert b" 101 " in head
        writer.write(b"ping")
        assert await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"
        writer.close()
        await writer.wait_closed()

    with_shop(body)


def test_an_idempotent_request_finds_another_replica_when_the_first_is_dead() -> None:
    async def body(shop: Shop) -> None:
        async with replica("users-r2", shop.rig.folder / "u2.sock"):
            async with replica("users-r3", shop.rig.folder / "dead.sock") as dead:
                pass
            async with replica("users-r2", shop.rig.folder / "u2b.sock") as second:
                shop.rig.route("users", [shop.users.endpoint, second.endpoint, dead.endpoint])
                await shop.rig.apply()
                url = f"http://127.0.0.1:{shop.ports['users']}/x"
                answers = [await curl(url, "--request", method) for method in ["GET", "POST"] * 10]
                assert {answer.status for answer in answers} == {200}
                assert {answer.headers["x-shoal-replica"] for answer in answers} == {"users-r1", "users-r2"}

    with_shop(body)


def test_the_admin_socket_is_for_its_user_alone_and_envoy_warns_of_nothing() -> None:
    async def body(shop: Shop) -> None:
        assert "LIVE" in await admin_get("/ready", shop.rig.admin_socket)
        for socket in (shop.rig.admin_socket, shop.rig.mesh_socket, shop.rig.xds_socket):
            assert socket.stat().st_mode & 0o777 == 0o600
        assert shop.rig.log() == ""

    with_shop(body)
