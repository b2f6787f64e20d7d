"""`network: own` as a user without rights: hard-coded ports side by side, with replicas, and no way round the mesh."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shoal.engines.local.networks import detection
from tests.support.plane import Plane, plane
from tests.support.port import free_port
from tests.support.prober import Kind, prober
from tests.support.processes import alive
from tests.support.user import UnavailableError, nobody

POSSIBLE, WHY_NOT = detection.detect()
pytestmark = [pytest.mark.integration, pytest.mark.skipif(not POSSIBLE, reason=WHY_NOT)]

SERVER = '''
"""server.py NAME HOST PORT: says its name; `/call/<host:port>/<path>` calls that and says both; takes any POST."""
import http.server, sys, urllib.error, urllib.request

name, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status, text = 200, name
        if self.path.startswith("/call/"):
            try:
                with urllib.request.urlopen("http://" + self.path[6:], timeout=5) as answer:
                    text = f"{name} > {answer.read().decode()}"
            except urllib.error.HTTPError as error:
                status, text = error.code, error.read().decode()
            except OSError as error:
                status, text = 502, str(error)
        self.answer(status, text)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.answer(200, name)

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer((host, port), Handler).serve_forever()
'''
REDIS = '''
"""Says what it is told back, a line at a time, on the port that is Redis's."""
import socketserver

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(b"+" + line)

socketserver.ThreadingTCPServer(("0.0.0.0", 6379), Handler).serve_forever()
'''
TELL_REDIS = """
import socket
with socket.create_connection(("redis", 6379), timeout=5) as connection:
    connection.sendall(b"PING\\r\\n")
    print(connection.makefile().readline().strip())
"""


class App:
    """An app of which four services hard-code 0.0.0.0:9080 or 127.0.0.1:9080."""

    def __init__(self, shoal: Plane, port: int, hosts_port: int, outside: int) -> None:
        self.shoal, self.port, self.hosts_port, self.outside = shoal, port, hosts_port, outside

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, *, port: int | None = None) -> tuple[int, str, str]:
        """Status, body and the replica that answered."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.headers.get("x-shoal-replica", "")
        finally:
            connection.close()

    def system_pid(self, name: str) -> int:
        """Of a process of the keeper that is no replica."""
        record = json.loads((self.shoal.root / "processes" / f"{name}.json").read_text())
        return int(record["pid"])


class Outside(http.server.BaseHTTPRequestHandler):
    """What is not part of the app."""

    def do_GET(self) -> None:
        body = f"outside, asked for {self.path}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def someone_outside(port: int) -> Iterator[None]:
    """On 127.0.0.2, and on 127.0.0.1, which is what `*.localhost` stands for."""
    servers = [http.server.ThreadingHTTPServer((host, port), Outside) for host in ("127.0.0.1", "127.0.0.2")]
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    with tempfile.TemporaryDirectory(prefix="shoal-test-", dir="/tmp") as name:
        folder = Path(name)
        command: dict[str, Any] = {}
        if os.geteuid() == 0:
            try:
                somebody = nobody(folder)
            except UnavailableError as error:
                pytest.skip(str(error))
            command = {
                "command": [*somebody.python, "-m", "shoal"],
                "environment": somebody.environment,
                "owner": somebody.uid,
            }
        port, hosts_port, outside = free_port(), free_port(), free_port()
        text = f"""
services:
  product: {{command: [python3, server.py, product, 0.0.0.0, "9080"], network: own, port: 9080, replicas: 2,
    calls: [reviews, ratings, details, host, redis]}}
  reviews: {{command: [python3, server.py, reviews, 0.0.0.0, "9080"], network: own, port: 9080, replicas: 2,
    calls: [product]}}
  ratings: {{command: [python3, server.py, ratings, 127.0.0.1, "9080"], network: own, port: 9080,
    listen: "127.0.0.1:9080", calls: [product]}}
  details: {{command: [python3, server.py, details, 0.0.0.0, "9080"], network: own, port: 80, listen: 9080,
    publish: false, calls: [product], egress: ["127.0.0.2:{outside}", "*.localhost:{outside}"]}}
  redis: {{command: [python3, redis.py], network: own, port: 6379, protocol: tcp, publish: false}}
  host: {{command: "python3 server.py host 127.0.0.1 $PORT", port: {hosts_port}, calls: [product, reviews]}}
gateway: {{port: {port}, routes: {{/: product, /ratings: ratings}}}}
"""
        files = {"shoal.yaml": text, "server.py": SERVER, "redis.py": REDIS, "tell.py": TELL_REDIS}
        with plane(folder / "app", files=files, **command) as shoal:
            shoal.up()
            with someone_outside(outside):
                yield App(shoal, port, hosts_port, outside)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", "product"),
        ("/call/reviews:9080/", "product > reviews"),
        ("/call/reviews:9080/call/product:9080/", "product > reviews > product"),
        ("/call/ratings:9080/call/product:9080/", "product > ratings > product"),
        ("/call/details/call/product:9080/", "product > details > product"),
    ],
)
def test_services_on_the_same_port_call_each_other_by_name(app: App, path: str, body: str) -> None:
    status, text, replica = app.ask(path)
    assert (status, text) == (200, body)
    assert replica.startswith("product-r")


def test_services_on_the_machines_network_call_and_are_called(app: App) -> None:
    path = f"/call/host:{app.hosts_port}/call/reviews:9080/"
    assert app.ask(path)[:2] == (200, "product > host > reviews")
    status, text, replica = app.ask("/call/product:9080/", port=app.hosts_port)
    assert (status, text, replica) == (200, "host > product", "host-r1")


def test_neither_envoy_refuses_anything(app: App) -> None:
    assert [event for event in app.shoal.events() if event["kind"] == "ResourceRejected"] == []
    assert not (app.shoal.root / "logs" / "envoy-own.log").exists()  # it only speaks of trouble


def test_every_replica_of_a_service_gets_its_share(app: App) -> None:
    assert {app.ask("/")[2] for _ in range(60)} == {one["id"] for one in app.shoal.replicas("product")}
    assert app.ask("/ratings")[1:] == ("ratings", app.shoal.replicas("ratings")[0]["id"])


def test_a_call_that_is_not_declared_is_denied_with_the_line_to_add(app: App) -> None:
    status, text, _ = app.ask("/call/reviews:9080/call/ratings:9080/")
    assert status == 403
    assert "services.reviews.calls: [product, ratings]" in text


def test_one_replica_does_not_reach_another_round_the_mesh(app: App) -> None:
    addresses = [replica["address"] for replica in app.shoal.replicas("reviews")]
    assert len(addresses) == 2
    for address in addresses:
        assert address.startswith("10.77.")
        status, text, _ = app.ask(f"/call/{address}/")
        assert (status, text) == (502, "<urlopen error [Errno 113] No route to host>")


def test_a_command_runs_in_the_network_of_a_replica(app: App) -> None:
    def run(*command: str) -> str:
        return app.shoal.shoal("exec", "product", "--", *command).stdout.strip()

    assert run("python3", "tell.py") == "+PING"  # redis:6379, by its bare name
    assert run("curl", "-sS", "http://details/") == "details"
    assert run("curl", "-sS", "http://127.0.0.1:9080/") == "product"


def test_what_its_egress_names_is_reached_by_the_variables_that_programs_know(app: App) -> None:
    def curl(*arguments: str) -> str:
        command = ("curl", "-sS", "--max-time", "20", "-w", "\n%{http_connect} %{http_code}", *arguments)
        return app.shoal.shoal("exec", "details", "--", *command, check=False).stdout

    url = f"http://127.0.0.2:{app.outside}/where"
    assert curl(url) == "outside, asked for /where\n000 200"
    assert curl("--proxytunnel", url) == "outside, asked for /where\n200 200"
    for name in ("a.localhost", "B.c.localhost"):
        proxied = ("--noproxy", "-", "--proxytunnel", f"http://{name}:{app.outside}/")
        assert curl(*proxied) == "outside, asked for /\n200 200"
    # Another port, another host, and the machine's own 127.0.0.1, where the published ports are.
    for place in (f"127.0.0.2:{app.port}", "192.0.2.1", f"127.0.0.1:{app.outside}", f"localhost:{app.outside}"):
        refused = curl("--noproxy", "-", f"http://{place}/")
        line = place if ":" in place else f"{place}:80"
        assert refused.endswith("\n000 403"), refused
        problem = json.loads(refused.rpartition("\n")[0])
        assert problem["code"] == "egress-denied"
        assert f"egress: [127.0.0.2:{app.outside}, *.localhost:{app.outside}, {line}]" in problem["way_out"], problem
    assert curl("--noproxy", "-", "--proxytunnel", "http://192.0.2.1:443/").endswith("\n403 000")
    # Not by the proxy: no way at all, for this service and for those without a list on this machine's loopback.
    assert "\n000 000" in curl("--noproxy", "*", url)


def test_a_service_with_a_list_calls_the_others_past_the_proxy(app: App) -> None:
    script = 'echo "$NO_PROXY"; curl -sS http://product:9080/'
    said = app.shoal.shoal("exec", "details", "--", "sh", "-c", script).stdout
    assert said.splitlines() == ["localhost,127.0.0.1,::1,product,reviews,ratings,details,redis,host", "product"]


def test_a_service_that_runs_cannot_move_to_another_network(app: App) -> None:
    file = app.shoal.folder / "shoal.yaml"
    text = file.read_text()
    try:
        file.write_text(
            text.replace(
                '0.0.0.0, "9080"], network: own, port: 9080, replicas: 2,\n    calls: [reviews',
                '0.0.0.0, "9080"], port: 9080, replicas: 2,\n    calls: [reviews',
            )
        )
        refused = app.shoal.shoal("up", "-d", check=False)
    finally:
        file.write_text(text)
    assert refused.returncode != 0
    assert "'network' of product changes to host" in refused.stderr


def test_a_killed_replica_loses_no_get(app: App) -> None:
    with prober(app.url, get="/call/reviews:9080/", post="/") as probe:
        for service in ("reviews", "product"):
            victim = app.shoal.replicas(service)[0]["id"]
            seen = app.shoal.status()["sequence"]
            os.kill(app.shoal.pids()[victim], signal.SIGKILL)
            app.shoal.wait_for_event("ReplicaExited", victim, after=seen)
            app.shoal.wait_for_status(lambda status: status["health"] == "ready", "all ready again")
    probe.assert_nothing_lost(kinds=[Kind.GET, Kind.KEYED])


def test_a_rolling_restart_loses_nothing(app: App) -> None:
    with prober(app.url, get="/call/reviews:9080/", post="/") as probe:
        for service in ("reviews", "product"):
            app.shoal.shoal("restart", service)
            app.shoal.wait_for_status(lambda status: status["health"] == "ready", "all ready again")
    probe.assert_nothing_lost()


@pytest.mark.parametrize("parts", [("daemon",), ("keeper",), ("keeper", "daemon")])
def test_the_death_of_keeper_and_daemon_disturbs_nothing(app: App, parts: tuple[str, ...]) -> None:
    pids = app.shoal.pids()
    mesh = {name: app.system_pid(name) for name in ("network", "envoy-own")}
    old = {"daemon": app.shoal.status()["daemon_pid"], "keeper": app.shoal.keeper_pid()}
    with prober(app.url, get="/call/reviews:9080/", post="/") as probe:
        for part in parts:
            os.kill(old[part], signal.SIGKILL)
        if "keeper" in parts and "daemon" in parts:
            app.shoal.up()
        app.shoal.wait_for_status(
            lambda status: "daemon" not in parts or status["daemon_pid"] != old["daemon"], "a new daemon"
        )
        app.shoal.wait_for_status(lambda status: status["health"] == "ready", "ready")
    probe.assert_nothing_lost()
    assert app.shoal.pids() == pids
    assert {name: app.system_pid(name) for name in mesh} == mesh


@pytest.mark.parametrize("part", ["network", "envoy-own"])
def test_what_holds_the_network_comes_back(app: App, part: str) -> None:
    pids, old = app.shoal.pids(), app.system_pid(part)
    os.kill(old, signal.SIGKILL)
    app.shoal.eventually(lambda: not alive(old) and app.system_pid(part) != old, f"a new {part}")
    app.shoal.eventually(lambda: app.ask("/call/reviews:9080/")[0] == 200, "answers again")
    assert app.shoal.pids() == pids
    # A replica that starts now has its place in the same network.
    seen = app.shoal.status()["sequence"]
    os.kill(pids[app.shoal.replicas("details")[0]["id"]], signal.SIGKILL)
    app.shoal.wait_for_event("ReplicaExited", app.shoal.replicas("details")[0]["id"], after=seen)
    app.shoal.wait_for_status(lambda status: status["health"] == "ready", "all ready again")
    app.shoal.eventually(lambda: app.ask("/call/details/")[:2] == (200, "product > details"), "details answers")


@pytest.mark.parametrize("daemon", [False, True], ids=["", "and the daemon"])
def test_a_network_that_died_whole_is_made_anew_with_the_replicas_in_it(app: App, daemon: bool) -> None:
    pids = app.shoal.pids()
    own = {name: pid for name, pid in pids.items() if name.partition("-")[0] not in ("envoy", "host")}
    seen = app.shoal.status()["sequence"]
    dead = [app.system_pid("envoy-own"), app.system_pid("network")]
    for pid in [*([app.shoal.status()["daemon_pid"]] if daemon else []), *dead]:
        os.kill(pid, signal.SIGKILL)
    app.shoal.eventually(
        lambda: not set(own.values()) & set(app.shoal.pids().values()), "no replica of the dead network", within_s=60
    )
    app.shoal.wait_for_status(lambda status: status["health"] == "ready", "all ready again", within_s=60)
    path = f"/call/host:{app.hosts_port}/call/reviews:9080/call/product:9080/"
    app.shoal.eventually(lambda: app.ask(path)[0] == 200, "answers again")
    assert app.shoal.pids()["host-r1"] == pids["host-r1"]
    ends = {e["subject"]: e["message"] for e in app.shoal.events(seen) if e["kind"] == "ReplicaExited"}
    assert ends.keys() == own.keys()
    assert all("its network was lost" in words for words in ends.values()), ends
    told = [e["message"] for e in app.shoal.events(seen) if e["kind"] == "Warned"]
    assert len([words for words in told if "was lost, and made anew" in words]) == 1, told
    # Traffic first: each was out of Envoy before it was asked to end.
    kinds = [(e["kind"], e["subject"]) for e in app.shoal.events(seen)]
    for name in own:
        assert kinds.index(("ReplicaUnready", name)) < kinds.index(("ReplicaExited", name))
