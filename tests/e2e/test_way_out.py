"""The way to the outside that pasta gives to replicas with networks of their own, as a user without rights."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shoal.engines.local.networks import detection
from tests.support.plane import Plane, plane
from tests.support.processes import alive
from tests.support.user import NOBODY, UnavailableError, nobody

POSSIBLE, WHY_NOT = detection.detect()
pytestmark = [pytest.mark.integration, pytest.mark.skipif(not POSSIBLE, reason=WHY_NOT)]

OUTSIDE = "198.51.100.1"
"""Of the test's own machine: a network namespace, with one address and a default route that leads nowhere."""
RESOLVER = "127.0.0.9"
HOST = f"""
set -e
ip link set lo up
ip link add name test0 type veth peer name test1
ip addr add {OUTSIDE}/24 dev test0
ip link set test0 up
ip link set test1 up
ip route add default via 198.51.100.254
echo nameserver {RESOLVER} > "$1/resolv.conf"
mount --bind "$1/resolv.conf" /etc/resolv.conf
mknod -m 666 "$1/tun" c 10 200
mount --bind "$1/tun" /dev/net/tun
exec {sys.executable} "$1/outside.py"
"""
SERVERS = f'''
"""A web server on the outside address, one on loopback, and a resolver that knows every name as the outside address."""
import http.server, socket, socketserver, threading

class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"outside")
    def log_message(self, *_):
        pass

class Names(socketserver.BaseRequestHandler):
    def handle(self):
        question, answers = self.request
        end = question.index(b"\\0", 12) + 5
        known = question[end - 4:end - 2] == b"\\0\\1"
        head = question[:2] + b"\\x81\\x80\\0\\1" + (b"\\0\\1" if known else b"\\0\\0") + b"\\0\\0\\0\\0"
        record = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + socket.inet_aton("{OUTSIDE}")
        answers.sendto(head + question[12:end] + (record if known else b""), self.client_address)

for host in ("{OUTSIDE}", "127.0.0.1"):
    web = http.server.ThreadingHTTPServer((host, 8080), Web)
    threading.Thread(target=web.serve_forever, daemon=True).start()
names = socketserver.ThreadingUDPServer(("{RESOLVER}", 53), Names)
print("ready", flush=True)
names.serve_forever()
'''
APP = f"""
services:
  open: {{command: [python3, -m, http.server, "9080"], network: own, port: 9080, publish: false, replicas: 2}}
  first:
    command: "curl -sS --max-time 5 --noproxy '*' http://{OUTSIDE}:8080/ > $SHOAL_DATA_DIR/first.txt; sleep 100000"
    network: own
  closed: {{command: [sleep, "100000"], network: own, egress: []}}
"""


@contextmanager
def machine(folder: Path) -> Iterator[int]:
    """The pid of a process in it."""
    (folder / "outside.py").write_text(SERVERS)
    command = ["unshare", "--net", "--mount", "sh", "-c", HOST, "sh", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if said != "ready\n":
                pytest.skip(f"cannot make a mount namespace here: {said}")
            yield process.pid
        finally:
            process.kill()


@pytest.fixture(scope="module")
def shoal() -> Iterator[Plane]:
    if shutil.which("pasta") is None:
        pytest.skip("there is no pasta (package passt)")
    with tempfile.TemporaryDirectory(prefix="shoal-test-", dir="/tmp") as name:
        folder = Path(name)
        try:
            somebody = nobody(folder)
        except UnavailableError as error:
            pytest.skip(str(error))
        with machine(folder) as pid:
            enter = ["nsenter", f"--net=/proc/{pid}/ns/net", f"--mount=/proc/{pid}/ns/mnt", "--"]
            enter += ["sh", "-c", 'cd "$0" && exec "$@"', str(folder / "app")]  # nsenter goes to the root folder
            with plane(
                folder / "app",
                files={"shoal.yaml": APP},
                command=[*enter, *somebody.python, "-m", "shoal"],
                environment=somebody.environment,
                owner=NOBODY,
            ) as made:
                made.up()
                yield made
                ways = ways_of(made)
                made.down()
                assert len(ways) == 3 and not [pid for pid in ways.values() if alive(pid)]


def ways_of(shoal: Plane) -> dict[str, int]:
    """The pid of each replica's pasta."""
    found = {}
    for record in (shoal.root / "processes").glob("*.pasta.json"):
        told = json.loads(record.read_text())
        if told["running"]:
            found[record.name.split(".")[0]] = told["pid"]
    return found


def curl(shoal: Plane, service: str, url: str) -> str:
    command = ("curl", "-sS", "--max-time", "3", "--noproxy", "*", url)
    done = shoal.shoal("exec", service, "--", *command, check=False)
    return done.stdout if done.returncode == 0 else done.stderr


def test_what_is_outside_is_reached_by_address_and_by_name(shoal: Plane) -> None:
    assert curl(shoal, "open", f"http://{OUTSIDE}:8080/") == "outside"
    assert (
        curl(shoal, "open", "http://shop.example.com:8080/") == "outside"
    )  # by the machine's resolver, on its loopback


def test_a_program_that_goes_there_first_thing_finds_the_way(shoal: Plane) -> None:
    assert (shoal.root / "data" / "first" / "first.txt").read_text() == "outside"


def test_the_machines_loopback_and_other_replicas_are_not_outside(shoal: Plane) -> None:
    assert "outside" not in curl(shoal, "open", "http://127.0.0.1:8080/")
    assert "outside" not in curl(shoal, "open", "http://10.79.0.1:8080/")
    for replica in shoal.replicas("open"):
        assert "Couldn't connect" in curl(shoal, "first", f"http://{replica['address']}/")


def test_who_has_a_list_has_no_other_way(shoal: Plane) -> None:
    assert "Couldn't connect" in curl(shoal, "closed", f"http://{OUTSIDE}:8080/")
    settings = {
        s["name"]: s["value"] for s in json.loads(shoal.shoal("explain", "closed", "--json").stdout)["settings"]
    }
    assert settings["egress"] == "nowhere"
    settings = {s["name"]: s["value"] for s in json.loads(shoal.shoal("explain", "open", "--json").stdout)["settings"]}
    assert settings["egress"] == "everything outside the machine, by pasta"


def test_a_way_out_that_is_killed_comes_back_and_leaves_with_its_replica(shoal: Plane) -> None:
    ways = ways_of(shoal)
    os.kill(ways["open-r1"], signal.SIGKILL)
    shoal.eventually(lambda: ways_of(shoal).get("open-r1", ways["open-r1"]) != ways["open-r1"], "another way out")
    shoal.eventually(lambda: curl(shoal, "open", f"http://{OUTSIDE}:8080/") == "outside", "the outside")
    os.kill(shoal.pids()["open-r2"], signal.SIGKILL)
    shoal.eventually(lambda: not alive(ways["open-r2"]), "the end of its way out")
    shoal.wait_for_status(lambda status: status["health"] == "ready", "all ready again")
    shoal.eventually(lambda: ways_of(shoal).keys() == ways.keys(), "one for each")
