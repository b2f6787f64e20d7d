"""Every protocol through the real Envoy: published, over an edge, by the gateway, and denied."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from shoal.mesh.endpoints import Endpoint
from shoal.mesh.routes import Times
from shoal.model.app import App, External, Gateway, Port, Protocol, Route
from shoal.model.event import CallDenied
from shoal.model.replica import TcpAddress
from shoal.model.traffic import Policy
from shoal.testing import apps
from tests.support.envoy import Rig, rig
from tests.support.port import free_port
from tests.support.processes import until
from tests.support.talk import Lines, WebSocket, get_json

pytestmark = pytest.mark.integration

SPEAKS = Path(__file__).parents[1] / "support" / "speaks.py"


@contextmanager
def speaking(kind: str, name: str) -> Iterator[Endpoint]:
    """A process that serves, as the replica of that name."""
    port = free_port()
    env = {"PATH": os.environ["PATH"], "PORT": str(port), "SHOAL_REPLICA": name}
    process = subprocess.Popen([sys.executable, SPEAKS, kind], env=env, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield Endpoint(replica=name, address=TcpAddress(host="127.0.0.1", port=port))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Mesh:
    """An app of everything: `web` (HTTP, gRPC on a further port), `cache` (TCP), `outside` and `legacy`; `client`
    calls them, `stranger` calls nobody."""

    def __init__(self, made: Rig, app: App) -> None:
        self.rig, self.app = made, app

    def published(self, service: str, port: int = 0) -> tuple[str, int]:
        return "127.0.0.1", self.app.service(service).every_port[port].number

    def edge(self, callee: str, port: int = 0, *, caller: str = "client") -> tuple[str, int]:
        assert self.rig.edges is not None
        return self.rig.edges.address(caller, callee), self.app.service(callee).every_port[port].number

    def gateway(self) -> str:
        assert self.app.gateway is not None
        return f"http://127.0.0.1:{self.app.gateway.port}"


def url(address: tuple[str, int], path: str = "/") -> str:
    return f"http://{address[0]}:{address[1]}{path}"


@asynccontextmanager
async def mesh(outside: int = 1, **fields: Any) -> AsyncIterator[Mesh]:
    web = apps.service(
        "web",
        port=free_port(),
        publish=True,
        traffic=Policy(timeout_s=0.5),
        ports=(Port(name="grpc", number=free_port(), protocol=Protocol.GRPC, publish=True),),
        **fields,
    )
    app = apps.app(
        web,
        apps.service("cache", port=free_port(), publish=True, protocol=Protocol.TCP),
        apps.service("outside", port=free_port(), replicas=0, workload=External(host="localhost", port=outside)),
        apps.service("legacy", port=free_port(), replicas=0, workload=External(host="127.0.0.1", port=outside)),
        apps.service("client", port=None, calls=("web", "cache", "outside", "legacy")),
        apps.service("stranger", port=None),
    )
    routes = (
        Route(service="web", path="/"),
        Route(service="web", path="/strip", rewrite="/"),
        Route(service="web", path="/re.write", rewrite="/v2/"),
        Route(service="web", path="/demo.Echo", port="grpc"),
    )
    app = replace(app, gateway=Gateway(port=free_port(), routes=routes))
    async with rig() as made:
        made.options = replace(made.options, times=Times(idle=30.0))
        made.deploy(app)
        yield Mesh(made, app)


def routed(cluster: str, *endpoints: Endpoint) -> tuple[str, tuple[Endpoint, ...]]:
    return cluster, endpoints


async def apply(made: Mesh, *routes: tuple[str, tuple[Endpoint, ...]]) -> None:
    for cluster, endpoints in routes:
        made.rig.route(cluster, endpoints)
    await made.rig.apply()


async def curl(*arguments: str) -> str:
    """What it prints. AssertionError: it failed."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--max-time", "10", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def test_an_http2_client_reaches_a_server_that_knows_only_http1() -> None:
    async def main() -> None:
        with speaking("http", "web-r1") as one:
            async with mesh() as made:
                await apply(made, routed("web", one))
                for where in (made.published("web"), made.edge("web")):
                    for version in ("--http1.0", "--http1.1", "--http2", "--http2-prior-knowledge"):
                        said = json.loads(await curl(version, url(where, "/x")))
                        assert (said["version"], said["path"]) == ("HTTP/1.1", "/x"), version
                said = json.loads(await curl("--http2-prior-knowledge", f"{made.gateway()}/x"))
                assert said["version"] == "HTTP/1.1"

    asyncio.run(main())


def test_server_sent_events_outlast_the_request_timeout_and_plain_requests_do_not() -> None:
    async def main() -> None:
        with speaking("http", "web-r1") as one:
            async with mesh() as made:
                await apply(made, routed("web", one))
                for base in (url(made.published("web"), ""), url(made.edge("web"), ""), made.gateway()):
                    said = await curl("-N", "-H", "accept: text/event-stream", f"{base}/events?n=12&every=0.1")
                    assert said.count("data: ") == 12
                    with pytest.raises(urllib.error.HTTPError) as caught:
                        await asyncio.to_thread(get_json, f"{base}/slow?s=2")
                    assert caught.value.code == 504
                    assert json.loads(caught.value.read())["code"] == "timeout"

    asyncio.run(main())


def test_a_websocket_outlasts_the_request_timeout() -> None:
    async def talk(where: tuple[str, int]) -> None:
        def both() -> tuple[str, str]:
            with WebSocket(where) as ws:
                assert ws.status == 101
                first = ws.say("one")
                until_later(0.8)
                return first, ws.say("two")

        assert await asyncio.to_thread(both) == ("web-r1:one", "web-r1:two")

    async def main() -> None:
        with speaking("http", "web-r1") as one:
            async with mesh() as made:
                await apply(made, routed("web", one))
                assert made.app.gateway is not None
                doors = (made.published("web"), made.edge("web"), ("127.0.0.1", made.app.gateway.port))
                await asyncio.gather(*map(talk, doors))

    asyncio.run(main())


def until_later(seconds: float) -> None:
    """Lets time pass: what is shown is that nothing happens meanwhile."""
    one, two = socket.socketpair()
    with one, two:
        one.settimeout(seconds)
        with pytest.raises(TimeoutError):
            one.recv(1)


def unary(channel: grpc.Channel, method: str, request: bytes, **options: Any) -> bytes:
    answer: bytes = channel.unary_unary(f"/demo.Echo/{method}")(request, timeout=10, **options)
    return answer


def test_grpc_goes_through_every_door_and_keeps_its_own_deadline() -> None:
    async def main() -> None:
        with speaking("grpc", "web-r1") as one, speaking("grpc", "web-r2") as two:
            async with mesh() as made:
                await apply(made, routed("web", one), routed("web:grpc", one, two))
                assert made.app.gateway is not None
                doors = [
                    made.published("web", 1),
                    made.edge("web", 1),
                    ("127.0.0.1", made.app.gateway.port),
                    made.published("web"),  # `protocol: http` takes gRPC too
                ]
                for host, port in doors:
                    await asyncio.to_thread(check_grpc, f"{host}:{port}")
                spread = await asyncio.to_thread(who_answers, made.edge("web", 1), 40)
                assert spread == {"web-r1", "web-r2"}

    asyncio.run(main())


def test_a_further_port_without_a_replica_is_told_of_by_its_service() -> None:
    async def main() -> None:
        async with mesh() as made:
            await apply(made)
            with pytest.raises(grpc.RpcError) as caught:
                await asyncio.to_thread(who_answers, made.published("web", 1), 1)
            assert caught.value.details() == "web has no ready replica; see why: shoal explain web"
            said = json.loads(await curl(url(made.published("web"))))
            assert said["detail"] == "web has no ready replica"

    asyncio.run(main())


def who_answers(where: tuple[str, int], times: int) -> set[str]:
    with grpc.insecure_channel(f"{where[0]}:{where[1]}") as channel:
        return {unary(channel, "Unary", b"").decode().partition(":")[0] for _ in range(times)}


def check_grpc(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        assert unary(channel, "Unary", b"hello").endswith(b":hello")
        # 16 times 50 ms: longer than the request time-out of 500 ms
        assert len(list(channel.unary_stream("/demo.Echo/Stream")(b"16", timeout=10))) == 16
        said = list(channel.stream_stream("/demo.Echo/Bidi")(iter([b"a", b"b"]), timeout=10))
        assert [each.rpartition(b":")[2] for each in said] == [b"a", b"b"]
        assert unary(channel, "Slow", b"0.8") == b"done"
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/demo.Echo/Slow")(b"5", timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_tcp_goes_through_and_a_dead_replica_is_passed_over() -> None:
    async def main() -> None:
        dead = Endpoint(replica="cache-r0", address=TcpAddress(host="127.0.0.1", port=free_port()))
        with speaking("lines", "cache-r1") as one, speaking("lines", "cache-r2") as two:
            async with mesh() as made:
                await apply(made, routed("cache", one, two, dead))
                for where in (made.published("cache"), made.edge("cache")):
                    seen = set()
                    for _ in range(12):
                        with await asyncio.to_thread(Lines, where) as lines:
                            assert await asyncio.to_thread(lines.say, "ECHO as it is") == "+as it is"
                            seen.add(await asyncio.to_thread(lines.say, "ID"))
                    assert seen == {"+cache-r1", "+cache-r2"}

    asyncio.run(main())


def test_a_tcp_call_that_is_not_declared_is_reset_and_told() -> None:
    async def main() -> None:
        async with mesh() as made:
            await apply(made)
            assert made.rig.edges is not None
            where = made.edge("cache", caller="stranger")
            with pytest.raises(ConnectionResetError):  # perhaps while it connects
                reader, writer = await asyncio.open_connection(*where)
                with contextlib.closing(writer):
                    await reader.read(1)
            event = await made.rig.inbox.expect(lambda event: isinstance(event, CallDenied))
            assert isinstance(event, CallDenied)
            assert (event.caller, event.callee, event.port) == ("stranger", "cache", where[1])

            # HTTP and gRPC are answered in their own words.
            status = await curl("-o", "/dev/null", "-w", "%{http_code}", url(made.edge("web", caller="stranger")))
            assert status == "403"
            host, port = made.edge("web", 1, caller="stranger")
            with pytest.raises(grpc.RpcError) as caught:
                await asyncio.to_thread(who_answers, (host, port), 1)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(main())


def test_the_gateway_takes_a_path_away_or_puts_another_in_its_place() -> None:
    async def main() -> None:
        with speaking("http", "web-r1") as one:
            async with mesh(rewrite_host="shop.example.com") as made:
                await apply(made, routed("web", one))
                for asked, seen, prefix in (
                    ("/strip", "/", "/strip"),
                    ("/strip/", "/", "/strip"),
                    ("/strip?a=b", "/?a=b", "/strip"),
                    ("/strip/x/y?a=/strip", "/x/y?a=/strip", "/strip"),
                    ("/stripped", "/stripped", None),
                    ("/re.write", "/v2", "/re.write"),
                    ("/re.write/x", "/v2/x", "/re.write"),
                    ("/reXwrite/x", "/reXwrite/x", None),
                ):
                    said = await asyncio.to_thread(get_json, made.gateway() + asked, {"x-forwarded-prefix": "/evil"})
                    assert (said["path"], said["headers"].get("x-forwarded-prefix")) == (seen, prefix), asked
                    assert said["headers"]["host"] == "shop.example.com"
                    assert said["headers"]["x-forwarded-host"] == made.gateway().removeprefix("http://")

    asyncio.run(main())


def test_a_name_may_stand_for_something_outside() -> None:
    async def main() -> None:
        with speaking("http", "outside") as there:
            assert isinstance(there.address, TcpAddress)
            async with mesh(outside=there.address.port) as made:
                await apply(made)
                for name, host in (("outside", "localhost"), ("legacy", "127.0.0.1")):
                    said = json.loads(await curl("--retry", "5", "--retry-delay", "1", url(made.edge(name), "/x")))
                    assert said["headers"]["host"] == f"{host}:{there.address.port}"

    asyncio.run(main())


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed: apt-get install nginx-light")
def test_nginx_calls_over_an_edge_in_http_1_0(tmp_path: Path) -> None:
    async def main() -> None:
        with speaking("http", "web-r1") as one:
            async with mesh() as made:
                await apply(made, routed("web", one))
                port = free_port()
                host, number = made.edge("web")
                config = NGINX.format(folder=tmp_path, port=port, target=f"http://{host}:{number}")
                (tmp_path / "nginx.conf").write_text(config)
                nginx = await asyncio.create_subprocess_exec("nginx", "-c", tmp_path / "nginx.conf", "-p", tmp_path)
                try:
                    await asyncio.to_thread(until, lambda: listens(port), "nginx")
                    said = await asyncio.to_thread(get_json, f"http://127.0.0.1:{port}/users/7")
                    assert (said["replica"], said["path"]) == ("web-r1", "/users/7")
                finally:
                    nginx.terminate()
                    await nginx.wait()

    asyncio.run(main())


NGINX = """
daemon off; pid {folder}/pid; error_log stderr; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {target}; }} }}
}}
"""


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
