"""`run:` replicas: Envoy speaks HTTP/2 to them, HTTP/1.1 where a connection is upgraded, and nobody can tell."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.plane import Plane, plane
from tests.support.port import free_port
from tests.support.prober import Kind, prober
from tests.support.talk import WebSocket, get_json

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
STUCK = 30
"""Streams that nobody reads, of each kind: more than a megabyte together, whatever the buffers on the way."""
APP = """
import asyncio, json, os

released = asyncio.Event()

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (said := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": said["text"]})
        return
    if scope["type"] != "http":
        return
    what = scope["path"].strip("/")
    if what == "hold":
        await released.wait()
    if what == "release":
        released.set()
    headers = [(b"content-type", b"text/event-stream" if what == "events" else b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if what == "flood":
        for _ in range(500):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    if what == "events":
        for number in range(5):
            await send({"type": "http.response.body", "body": b"data: %d\\n\\n" % number, "more_body": True})
            await asyncio.sleep(0.02)
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    said = {"replica": os.environ["SHOAL_REPLICA"], "http": scope["http_version"], "size": size}
    await send({"type": "http.response.body", "body": b"" if what == "events" else json.dumps(said).encode()})
"""
WSGI = """
import json, os

def app(environ, start_response):
    size = len(environ["wsgi.input"].read())
    start_response("200 OK", [("content-type", "application/json")])
    said = {"replica": os.environ["SHOAL_REPLICA"], "http": environ["SERVER_PROTOCOL"], "size": size}
    return [json.dumps(said).encode()]
"""


@dataclass
class Replicas:
    shoal: Plane
    asgi: int
    wsgi: int

    def ready(self, service: str) -> None:
        self.shoal.wait_for_status(
            lambda status: any(s["name"] == service and s["ready"] == 2 for s in status["services"]),
            f"two replicas of {service}",
        )


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    asgi, wsgi = free_port(), free_port()
    app = f"""
services:
  asgi: {{run: asgi_app:app, port: {asgi}, replicas: 2}}
  wsgi: {{run: wsgi_app:app, port: {wsgi}, replicas: 2}}
"""
    files = {"shoal.yaml": app, "asgi_app.py": APP, "wsgi_app.py": WSGI}
    with plane(tmp_path_factory.mktemp("run") / "app", files=files) as shoal:
        shoal.up()
        yield Replicas(shoal, asgi, wsgi)


def post(url: str, body: bytes) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=30) as answer:
        return json.load(answer)


def test_requests_come_in_http_2_and_upgrades_in_http_1(replicas: Replicas) -> None:
    assert get_json(f"http://{HOST}:{replicas.asgi}/")["http"] == "2"
    assert get_json(f"http://{HOST}:{replicas.wsgi}/")["http"] == "HTTP/2"
    with WebSocket((HOST, replicas.asgi)) as ws:
        assert ws.say("hello") == "hello"


def test_events_arrive_one_by_one(replicas: Replicas) -> None:
    request = urllib.request.Request(f"http://{HOST}:{replicas.asgi}/events", headers={"accept": "text/event-stream"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert [line.decode().strip() for line in answer if line.strip()] == [f"data: {n}" for n in range(5)]


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_a_long_upload_arrives_whole(replicas: Replicas, kind: str) -> None:
    size = 8 << 20
    assert post(f"http://{HOST}:{getattr(replicas, kind)}/", bytes(size))["size"] == size


def test_those_who_do_not_read_hold_up_nobody(replicas: Replicas) -> None:
    """Answers that no client reads, and uploads that no application reads, share connections with everybody's."""
    with ExitStack() as stack:
        for _ in range(STUCK):
            for head, body in ((b"GET /flood", b""), (b"POST /hold", bytes(1 << 20))):
                stuck = stack.enter_context(socket.socket())
                stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # before it connects: the kernel reads too
                stuck.connect((HOST, replicas.asgi))
                # An event stream has no time-out that would end it.
                fields = b"host: a\r\naccept: text/event-stream\r\ncontent-length: %d" % len(body)
                stuck.sendall(head + b" HTTP/1.1\r\n" + fields + b"\r\n\r\n")
                stuck.setblocking(False)
                try:
                    stuck.send(body)
                except BlockingIOError:
                    pass
        answered = {post(f"http://{HOST}:{replicas.asgi}/release", b"go")["replica"] for _ in range(40)}
    assert answered == {"asgi-r1", "asgi-r2"}


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_a_killed_replica_costs_nothing_that_can_be_repeated(replicas: Replicas, kind: str) -> None:
    with prober(f"http://{HOST}:{getattr(replicas, kind)}", kinds=[Kind.GET, Kind.KEYED]) as probe:
        for name in [name for name in replicas.shoal.pids() if name.startswith(f"{kind}-r")]:
            seen = replicas.shoal.status()["sequence"]
            os.kill(replicas.shoal.pids()[name], signal.SIGKILL)
            replicas.shoal.wait_for_event("ReplicaExited", name, after=seen)
            replicas.ready(kind)
    probe.assert_nothing_lost()


def test_a_rolling_restart_costs_nothing_at_all(replicas: Replicas) -> None:
    with prober(f"http://{HOST}:{replicas.asgi}", kinds=[Kind.GET, Kind.POST]) as probe:
        seen = replicas.shoal.status()["sequence"]
        replicas.shoal.shoal("restart", "asgi")
        for number in (1, 2):
            replicas.shoal.wait_for_event("ReplicaExited", f"asgi-r{number}", after=seen)
    probe.assert_nothing_lost()
