"""Two apps on one machine, and one app twice: each keeps to itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_hello import curl
from tests.support.plane import Plane, plane
from tests.support.port import free_port
from tests.support.prober import Kind, prober
from tests.support.processes import mentioning

pytestmark = pytest.mark.integration

# Plain ASGI: says which app it belongs to, and on /ask what `peer` says, by the name that is the same in every app.
TELLER = """
import asyncio
import json
import os
import socket
import urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask():
    found = socket.gethostbyname("peer")
    with opener.open("http://peer:9000/", timeout=5) as answer:
        return {"address": found, "peer": json.load(answer)}


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    names = ("SHOAL_APP", "SHOAL_SERVICE", "SHOAL_REPLICA", "SHOAL_DATA_DIR")
    told = {name[6:].lower(): os.environ[name] for name in names}
    if scope["path"] == "/ask":
        told |= await asyncio.to_thread(ask)
    body = json.dumps(told).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})
"""
SERVICES = """
services:
  web: {run: "teller:app", port: 9001, publish: false, replicas: 2, calls: [peer]}
  peer: {run: "teller:app", port: 9000, publish: false, replicas: 2}
"""


def with_gateway(name: str, port: int) -> str:
    return f"app: {name}\n{SERVICES}gateway: {{port: {port}, routes: {{/: web}}}}\n"


@contextmanager
def planes(folder: Path, *texts: str) -> Iterator[list[Plane]]:
    """One in a folder of its own for each app file; all up."""
    with ExitStack() as stack:
        made = []
        for number, text in enumerate(texts):
            files = {"shoal.yaml": text, "teller.py": TELLER}
            made.append(stack.enter_context(plane(folder / f"app{number}", files=files)))
            made[-1].up()
        yield made


def asked(shoal: Plane) -> dict[str, Any]:
    """What `web` says that `peer` says."""
    told: dict[str, Any] = json.loads(shoal.shoal("call", "web", "/ask").stdout.splitlines()[-1])
    return told


def base_id(shoal: Plane) -> str:
    """Of its Envoy's shared memory."""
    [command] = [text for text in mentioning(shoal.root, shoal.run).values() if "--base-id" in text]
    found = re.search(r"--base-id[\s\0]+(\d+)", command)
    assert found is not None, command
    return found[1]


def need_names(shoal: Plane) -> None:
    if shoal.status()["names"] != "names":
        pytest.skip(f"names do not work here: {shoal.status()['names_reason']}")


def test_two_apps_call_their_own_peers_by_the_same_name_and_one_outlives_the_other(tmp_path: Path) -> None:
    one, two = free_port(), free_port()
    with planes(tmp_path, with_gateway("one", one), with_gateway("two", two)) as [first, second]:
        need_names(first)
        networks = set()
        for name, port in (("one", one), ("two", two)):
            for _ in range(8):
                told = json.loads(curl(f"http://localhost:{port}/ask"))
                assert (told["app"], told["peer"]["app"], told["peer"]["service"]) == (name, name, "peer")
                networks.add((name, told["address"].split(".")[1]))
        assert len(networks) == 2 and len({network for _, network in networks}) == 2, networks
        assert base_id(first) != base_id(second)
        assert first.run != second.run and not first.pids().items() & second.pids().items()

        with prober(f"http://127.0.0.1:{two}", get="/ask", kinds=[Kind.GET]) as probe:
            first.down()
        probe.assert_nothing_lost(kinds=[Kind.GET])
        first.assert_nothing_left()
        assert json.loads(curl(f"http://localhost:{two}/ask"))["peer"]["app"] == "two"

        first.up()  # and comes back beside it
        assert json.loads(curl(f"http://localhost:{one}/ask"))["peer"]["app"] == "one"


def test_the_same_app_runs_twice_from_two_folders(tmp_path: Path) -> None:
    with planes(tmp_path, f"app: same\n{SERVICES}", f"app: same\n{SERVICES}") as [first, second]:
        need_names(first)
        told = [asked(first), asked(second)]
        for shoal, answer in zip((first, second), told, strict=True):
            assert answer["app"] == answer["peer"]["app"] == "same"
            assert answer["data_dir"].startswith(f"{shoal.root}/")
            assert answer["peer"]["data_dir"].startswith(f"{shoal.root}/")
        assert told[0]["address"] != told[1]["address"]
        assert base_id(first) != base_id(second)

        first.shoal("scale", "peer", "3")
        first.wait_for_status(lambda status: status["services"][1]["ready"] == 3, "three ready peers")
        assert len(second.replicas("peer")) == 2
        second.down()
        second.assert_nothing_left()
        assert asked(first)["peer"]["service"] == "peer"


def test_a_second_app_that_wants_the_same_port_is_told_who_has_it(tmp_path: Path) -> None:
    port = free_port()
    with planes(tmp_path, with_gateway("one", port)) as [first]:
        files = {"shoal.yaml": with_gateway("two", port), "teller.py": TELLER}
        with plane(tmp_path / "other", files=files) as second:
            done = second.shoal("up", "-d", check=False)
            assert done.returncode != 0
            said = done.stdout + done.stderr
            assert str(port) in said and "envoy" in said, said
            assert json.loads(curl(f"http://localhost:{port}/"))["app"] == "one"
        assert first.status()["services"][0]["ready"] == 2
