"""JavaScript and Python that call each other by the names in their code, gRPC by name, a WebSocket by the gateway."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.test_hello import curl
from tests.support.plane import Plane, plane

pytestmark = pytest.mark.integration

Example = Callable[[str], tuple[Path, dict[int, int]]]


def need_node() -> None:
    if shutil.which("node") is None:
        pytest.skip("there is no node")


def test_a_cycle_of_two_languages_grpc_by_name_and_a_websocket(example: Example) -> None:
    need_node()
    folder, ports = example("polyglot")
    gateway = f"http://localhost:{ports[8088]}"
    with plane(folder) as shoal:
        shoal.up()
        if shoal.status()["names"] != "names":
            pytest.skip(f"names do not work here: {shoal.status()['names_reason']}")

        assert re.fullmatch(r"Hello, it is \d\d:\d\d", json.loads(curl(f"{gateway}/hello"))["message"])
        assert re.fullmatch(r"Good morning! It is \d\d:\d\d", json.loads(curl(f"{gateway}/alarm"))["alarm"])
        spoken = json.loads(curl(f"{gateway}/spoken"))["spoken"]
        assert re.fullmatch(r"[a-z-]+ hours and [a-z-]+ minutes", spoken)
        assert json.loads(curl(f"localhost:{ports[3000]}/greeting")) == {"greeting": "Good morning"}

        told = Counter(re.findall(r"x-shoal-replica: (\S+)", "".join(head(f"{gateway}/hello") for _ in range(30))))
        assert set(told) == {"greeter-r1", "greeter-r2"}, told
        greeted = {websocket_echo(ports[8088], "/echo", f"hello {number}") for number in range(20)}
        assert greeted == {"this is echo-r1", "this is echo-r2"}

        assert "403" in refused(shoal, ports[5001])


def head(url: str) -> str:
    return curl("-D", "-", "-o", "/dev/null", url)


def refused(shoal: Plane, port: int) -> str:
    """greeter has not declared echo."""
    done = shoal.shoal("exec", "greeter", "--", "curl", "-sSi", "--noproxy", "*", f"http://echo:{port}/")
    return done.stdout.splitlines()[0]


def connected(port: int, tls: bool) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), timeout=10)
    return ssl._create_unverified_context().wrap_socket(link) if tls else link


def websocket_echo(port: int, path: str, text: str, *, tls: bool = False) -> str:
    """Sends a text, expects it back; gives the greeting that came first. RFC 6455 with short unfragmented frames."""
    with connected(port, tls) as link, link.makefile("rb") as stream:
        key = base64.b64encode(os.urandom(16)).decode()
        link.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        assert b" 101 " in stream.readline()
        while stream.readline() not in (b"\r\n", b""):
            pass

        def frame() -> str:
            first, size = struct.unpack("!BB", stream.read(2))
            assert first == 0x81 and size < 126, (first, size)
            return stream.read(size).decode()

        greeting = frame()
        mask, raw = os.urandom(4), text.encode()
        link.sendall(bytes([0x81, 0x80 | len(raw)]) + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(raw)))
        assert frame() == text
        return greeting
