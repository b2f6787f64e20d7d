"""Every protocol, from an app file to processes: published, by name from another service, through the gateway; and what
a killed replica costs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.plane import Plane, plane
from tests.support.port import free_port
from tests.support.prober import Kind, prober
from tests.support.talk import Address, Lines, Steady, WebSocket, get_json

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
SPEAKS = Path(__file__).parents[1] / "support" / "speaks.py"
TALK = """
import sys
sys.path.insert(0, {root!r})
from tests.support.talk import *
"""


@dataclass
class Everything:
    """An app of `web` (HTTP and gRPC), `echo` (gRPC without a health service), `lines` (TCP), each with two replicas,
    and `client`, which calls the first three."""

    shoal: Plane
    web: int
    web_grpc: int
    echo: int
    lines: int
    other: int
    gateway: int

    def ready(self, service: str) -> Any:
        return self.shoal.wait_for_status(
            lambda status: any(s["name"] == service and s["ready"] == 2 for s in status["services"]),
            f"two replicas of {service}",
        )

    def kill(self, replica: str) -> None:
        """Until it was noticed and replaced."""
        seen = self.shoal.status()["sequence"]
        os.kill(self.shoal.pids()[replica], signal.SIGKILL)
        self.shoal.wait_for_event("ReplicaExited", replica, after=seen)
        self.ready(replica.rpartition("-")[0])

    def edge(self, name: str) -> Address:
        """The address of the edge by which `client` reaches it; `web:grpc` is a port of `web`."""
        told = json.loads(self.shoal.shoal("explain", "client", "--json").stdout)
        host, _, port = told["reaches"][name].rpartition(":")
        return host, int(port)

    def inside(self, script: str) -> str:
        """What a script prints that runs as part of `client`."""
        text = TALK.format(root=str(SPEAKS.parents[2])) + script
        return self.shoal.shoal("exec", "client", "--", sys.executable, "-c", text).stdout


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    web, web_grpc, echo, lines, other, gateway = (free_port() for _ in range(6))
    speaks = f'command: ["{sys.executable}", "{SPEAKS}"'
    app = f"""
services:
  web:
    {speaks}, http, "grpc:PORT_GRPC"]
    ports: {{http: {web}, grpc: {{port: {web_grpc}, protocol: grpc}}}}
    replicas: 2
  echo:
    {speaks}, grpc]
    port: {echo}
    protocol: grpc
    replicas: 2
    env: {{NO_HEALTH: "1"}}
  lines:
    {speaks}, lines]
    port: {lines}
    protocol: tcp
    replicas: 2
    health: {{command: 'test -n "$SHOAL_REPLICA" && test "$ANSWER" = 42'}}
    env: {{ANSWER: 42}}
  other:
    {speaks}, lines]
    port: {other}
    protocol: tcp
  client:
    command: [sleep, "100000"]
    calls: [web, echo, lines]
gateway:
  port: {gateway}
  routes:
    /: web
    /api: {{service: web, strip: true}}
    /demo.Echo: {{service: web, port: grpc}}
"""
    with plane(tmp_path_factory.mktemp("protocols") / "app", files={"shoal.yaml": app}) as shoal:
        shoal.up()
        yield Everything(shoal, web, web_grpc, echo, lines, other, gateway)


def unary(where: Address, request: bytes, **options: Any) -> str:
    """Over a new connection; gives the replica."""
    with grpc.insecure_channel(f"{where[0]}:{where[1]}") as channel:
        answer: bytes = channel.unary_unary("/demo.Echo/Unary")(request, timeout=10, **options)
    who, _, said = answer.decode().partition(":")
    assert said == request.decode()
    return who


def test_http_loses_no_get_when_a_replica_is_killed(everything: Everything) -> None:
    for host, port in ((HOST, everything.web), (HOST, everything.gateway), everything.edge("web")):
        with prober(f"http://{host}:{port}", kinds=[Kind.GET, Kind.KEYED]) as probe:
            everything.kill("web-r1")
        probe.assert_nothing_lost()


def test_the_gateway_strips(everything: Everything) -> None:
    said = get_json(f"http://127.0.0.1:{everything.gateway}/api/users?a=b")
    assert (said["path"], said["headers"]["x-forwarded-prefix"]) == ("/users?a=b", "/api")


@pytest.mark.parametrize("door", ["published", "without health service", "gateway", "edge"])
def test_grpc_is_spread_and_a_killed_replica_costs_a_repeatable_call_nothing(everything: Everything, door: str) -> None:
    where = {
        "published": (HOST, everything.web_grpc),
        "without health service": (HOST, everything.echo),
        "gateway": (HOST, everything.gateway),
        "edge": everything.edge("web:grpc"),
    }[door]
    with Steady(lambda: unary(where, b"hi", metadata=(("idempotency-key", "k"),))) as calls:
        everything.kill("echo-r2" if door == "without health service" else "web-r2")
    assert not calls.lost, calls.summary()
    assert len(calls.answered) == 2, calls.summary()


def test_a_grpc_stream_goes_on_with_its_own_replica(everything: Everything) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{everything.echo}") as channel:
        said = list(channel.unary_stream("/demo.Echo/Stream")(b"5", timeout=10))
        assert len({each.decode().partition(":")[0] for each in said}) == 1
        assert len(said) == 5
        health = channel.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.RpcError) as caught:
            health(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with grpc.insecure_channel(f"127.0.0.1:{everything.web_grpc}") as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10) == b"\x08\x01"


def test_a_killed_replica_cuts_its_own_websockets_and_no_others(everything: Everything) -> None:
    doors = ((HOST, everything.web), (HOST, everything.gateway), everything.edge("web"))
    sockets = [WebSocket(door) for door in doors * 4]
    try:
        owners = [ws.say("who").partition(":")[0] for ws in sockets]
        assert set(owners) == {"web-r1", "web-r2"}
        everything.kill("web-r1")
        for ws, owner in zip(sockets, owners, strict=True):
            if owner == "web-r2":
                assert ws.say("still") == "web-r2:still"
            else:
                with pytest.raises(OSError):
                    ws.say("still")
    finally:
        for ws in sockets:
            ws.close()
    with WebSocket(("127.0.0.1", everything.web)) as ws:
        assert ws.say("new").endswith(":new")


def test_events_arrive_as_they_are_sent(everything: Everything) -> None:
    url = f"http://127.0.0.1:{everything.gateway}/events?n=5&every=0.1"
    request = urllib.request.Request(url, headers={"accept": "text/event-stream"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert [line.decode().strip() for line in answer if line.strip()] == [f"data: {n}" for n in range(5)]


def test_an_event_stream_of_a_killed_replica_ends_and_is_opened_again_elsewhere(everything: Everything) -> None:
    url = f"http://127.0.0.1:{everything.gateway}/events?n=10000&every=0.05"

    def opened() -> Any:
        return urllib.request.urlopen(urllib.request.Request(url, headers={"accept": "text/event-stream"}), timeout=20)

    with prober(f"http://127.0.0.1:{everything.gateway}", kinds=[Kind.GET]) as probe:
        with opened() as stream:
            victim = stream.headers["x-shoal-replica"]
            assert stream.readline() == b"data: 0\n"
            os.kill(everything.shoal.pids()[victim], signal.SIGKILL)
            with contextlib.suppress(http.client.IncompleteRead, ConnectionResetError):
                while stream.readline():
                    pass
        # As an EventSource does, at once: nobody waits for the replica to come back.
        with opened() as stream:
            assert stream.readline() == b"data: 0\n"
        everything.ready("web")
    probe.assert_nothing_lost()


@pytest.mark.parametrize("door", ["published", "edge"])
def test_tcp_is_spread_and_a_killed_replica_is_passed_over(everything: Everything, door: str) -> None:
    where = (HOST, everything.lines) if door == "published" else everything.edge("lines")

    def ask() -> str:
        with Lines(where) as lines:
            assert lines.say("PING") == "+PONG"
            assert lines.say("SET a 1") == "+OK"
            assert lines.say("GET a") == "+1"
            return lines.say("ID")

    with Steady(ask) as calls:
        everything.kill("lines-r1")
    # Bytes cannot be sent again: a connection to the killed replica itself is lost.
    assert len(calls.lost) <= calls.workers, calls.summary()
    assert len(calls.answered) == 2, calls.summary()


def test_a_killed_daemon_finds_every_port_and_every_check_again(everything: Everything) -> None:
    shoal, pids = everything.shoal, everything.shoal.pids()
    daemon = shoal.status()["daemon_pid"]
    os.kill(daemon, signal.SIGKILL)
    shoal.wait_for_status(lambda status: status["daemon_pid"] != daemon, "a new daemon")
    shoal.wait_for_status(lambda status: status["health"] == "ready", "ready")
    assert shoal.pids() == pids
    everything.kill("lines-r2")  # its health command has its variables; its neighbour's ports are not given away
    everything.kill("web-r1")
    assert unary((HOST, everything.web_grpc), b"hi").startswith("web-")


def test_every_protocol_is_called_by_its_name(everything: Everything) -> None:
    if everything.shoal.status()["names"] != "names":
        pytest.skip(f"names do not work here: {everything.shoal.status()['names_reason']}")
    script = f"""
import grpc
print(get_json("http://web:{everything.web}/x")["headers"]["host"])
with WebSocket(("web", {everything.web})) as ws:
    print(ws.say("hi").partition(":")[2])
for port, name in (({everything.web_grpc}, "web"), ({everything.echo}, "echo")):
    with grpc.insecure_channel(f"{{name}}:{{port}}") as channel:
        print(channel.unary_unary("/demo.Echo/Unary")(b"hi", timeout=10).decode().partition(":")[2])
with Lines(("lines", {everything.lines})) as lines:
    print(lines.say("ECHO hi"))
print(os.environ["WEB_URL"], os.environ["WEB_GRPC_PORT"], os.environ["LINES_URL"])
"""
    web = f"web:{everything.web}"
    assert everything.inside(script).split() == [
        *(web, "hi", "hi", "hi", "+hi"),
        *(f"http://{web}", str(everything.web_grpc), f"tcp://lines:{everything.lines}"),
    ]


def test_a_tcp_call_that_is_not_declared_is_reset_and_listed(everything: Everything) -> None:
    if everything.shoal.status()["names"] != "names":
        pytest.skip(f"names do not work here: {everything.shoal.status()['names_reason']}")
    script = f"""
try:
    with Lines(("other", {everything.other})) as lines:
        print(lines.say("PING"))
except ConnectionResetError as error:
    print("reset")
"""
    assert everything.inside(script).strip() == "reset"
    event = everything.shoal.wait_for_event("CallDenied", "client")
    assert f"other:{everything.other}" in event["message"]


def test_status_and_explain_tell_of_protocols(everything: Everything) -> None:
    services = {s["name"]: s for s in everything.shoal.status()["services"]}
    assert services["web"]["address"] == f"http://localhost:{everything.web}"
    assert services["lines"]["address"] == f"localhost:{everything.lines}"
    told = json.loads(everything.shoal.shoal("explain", "client", "--json").stdout)
    assert sorted(told["reaches"]) == ["echo", "lines", "web", "web:grpc"]
    settings = {s["name"]: s["value"] for s in json.loads(_explained(everything, "web"))["settings"]}
    assert settings["ports"] == f"grpc: {everything.web_grpc} (grpc)"


def _explained(everything: Everything, service: str) -> str:
    return everything.shoal.shoal("explain", service, "--json").stdout


NGINX = """
daemon off; pid nginx.pid; error_log stderr; worker_processes 1;
events { worker_connections 64; }
http {
    access_log off; client_body_temp_path b; proxy_temp_path p;
    fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    server { listen 127.0.0.1:%(port)s; location / { proxy_pass http://web:%(web)s; } }
}
"""


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed: apt-get install nginx-light")
def test_a_stock_nginx_calls_a_service_by_its_name(tmp_path: Path) -> None:
    """HTTP/1.0, with the name resolved once, when nginx starts."""
    web, front = free_port(), free_port()
    app = f"""
services:
  front:
    command: "sed s/LISTEN/$PORT/ nginx.tmpl > nginx.conf && exec nginx -p . -c nginx.conf"
    port: {front}
    calls: [web]
  web: {{command: ["{sys.executable}", "{SPEAKS}", http], port: {web}, replicas: 2}}
"""
    files = {"shoal.yaml": app, "nginx.tmpl": NGINX % {"port": "LISTEN", "web": web}}
    with plane(tmp_path / "app", files=files) as shoal:
        shoal.up()
        if shoal.status()["names"] != "names":
            pytest.skip(f"names do not work here: {shoal.status()['names_reason']}")
        seen = {get_json(f"http://127.0.0.1:{front}/users/7")["replica"] for _ in range(20)}
        assert seen == {"web-r1", "web-r2"}


def test_a_service_that_speaks_another_protocol_than_it_says_is_told_so(tmp_path: Path) -> None:
    speaks = f'command: ["{sys.executable}", "{SPEAKS}"'
    app = f"""
services:
  grpc: {{{speaks}, grpc], port: {free_port()}}}
  http: {{{speaks}, http], port: {free_port()}, protocol: grpc}}
"""
    with plane(tmp_path / "app", files={"shoal.yaml": app}) as shoal:
        shoal.shoal("up", "-d", "--timeout", "1", check=False)
        for name in ("grpc", "http"):
            hint = f"say protocol: {name}"
            told = shoal.eventually(lambda n=name, h=hint: [r for r in shoal.replicas(n) if h in r["reason"]], hint)  # type: ignore[misc]
            assert told[0]["state"] == "starting"


def test_something_outside_has_a_name_and_is_never_started(tmp_path: Path, everything: Everything) -> None:
    app = f"""
services:
  legacy: {{external: "localhost:{everything.web}", port: {free_port()}}}
  client: {{command: [sleep, "100000"], calls: [legacy]}}
"""
    with plane(tmp_path / "app", files={"shoal.yaml": app}) as shoal:
        shoal.up()
        [legacy] = [s for s in shoal.status()["services"] if s["name"] == "legacy"]
        assert (legacy["health"], legacy["replicas"]) == ("ready", [])
        done = shoal.shoal("exec", "client", "--", "sh", "-c", 'curl -sS --retry 3 "$LEGACY_URL/x"')
        assert json.loads(done.stdout)["headers"]["host"] == f"localhost:{everything.web}"
        refused = shoal.shoal("scale", "legacy", "2", check=False)
        assert refused.returncode != 0 and "outside" in refused.stderr + refused.stdout
