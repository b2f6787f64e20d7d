"""`shoal call` over a real Unix socket: what is sent, what is printed, how it ends."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from shoal.cli import main as entry
from shoal.model.status import Health
from shoal.paths import StateFolder
from tests.unit.test_cli_commands import FakeClient, plane  # noqa: F401  a fixture
from tests.unit.test_cli_views import USERS, WORKER, app

pytestmark = pytest.mark.integration


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None: ...

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        if self.path == "/hangs-up":
            self.close_connection = True
            return
        told = {"method": self.command, "path": self.path, "host": self.headers["host"], "body": body}
        told |= {"type": self.headers["content-type"], "accept": self.headers["accept"]}
        content = json.dumps(told).encode() if self.path != "/raw" else b"\x00\xff\x1b[2J"
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("x-shoal-replica", "user-service-r1")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = answer  # noqa: N815  the names that http.server looks for


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        return super().get_request()[0], ("unix", 0)


@pytest.fixture
def mesh(plane: Path) -> Iterator[None]:  # noqa: F811
    FakeClient.statuses[:] = [app(USERS, WORKER, health=Health.READY)]
    with Server(str(StateFolder.beside(plane).mesh_socket), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield
        server.shutdown()
        thread.join()


def call(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str, status: int = 0) -> bytes:
    assert entry.run(["call", *arguments]) == status
    return capfdbinary.readouterr().out


def test_the_host_is_the_service_and_the_body_comes_as_it_is(
    mesh: None, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    told = json.loads(call(capfdbinary, "user-service", "users?page=2", "-H", "Accept: text/x"))
    assert (told["method"], told["path"], told["host"]) == ("GET", "/users?page=2", "user-service")
    assert told["accept"] == "text/x"
    assert call(capfdbinary, "user-service", "/raw") == b"\x00\xff\x1b[2J"


@pytest.mark.parametrize(
    ("data", "content_type"), [('{"a": 1}', "application/json"), ("a=1", "application/octet-stream")]
)
def test_data_is_posted(mesh: None, capfdbinary: pytest.CaptureFixture[bytes], data: str, content_type: str) -> None:
    told = json.loads(call(capfdbinary, "user-service", "/users", "-d", data))
    assert (told["method"], told["body"], told["type"]) == ("POST", data, content_type)


def test_a_file_is_sent(mesh: None, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    (tmp_path / "body").write_text("hello")
    told = json.loads(
        call(capfdbinary, "user-service", "/", "-X", "PUT", "-d", f"@{tmp_path}/body", "-H", "content-type: a/b")
    )
    assert (told["method"], told["body"], told["type"]) == ("PUT", "hello", "a/b")
    call(capfdbinary, "user-service", "/", "-d", "@/no/such", status=2)


def test_the_head_is_shown_when_asked_for(mesh: None, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    head = call(capfdbinary, "user-service", "/", "-i").partition(b"\n\n")[0].decode().splitlines()
    assert head[0] == "HTTP/1.1 200 OK"
    assert "x-shoal-replica: user-service-r1" in head
    told = json.loads(call(capfdbinary, "user-service", "/", "--json"))
    assert told["status"] == 200 and ["x-shoal-replica", "user-service-r1"] in told["headers"]


def test_an_answer_of_400_and_above_is_exit_status_1(mesh: None, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert entry.run(["call", "user-service", "/missing"]) == 1
    captured = capfdbinary.readouterr()
    assert json.loads(captured.out)["path"] == "/missing"
    assert captured.err == b"shoal: HTTP 404 Not Found\n"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["user-service", "/hangs-up"], 1, b"user-service gave no answer: "),
        (["mailer", "/"], 2, b"mailer has no port"),
        (["user-service", "/a b"], 2, b"this is no request"),
        (["user-service", "/", "-H", "nonsense"], 2, b"'nonsense' is no header"),
    ],
)
def test_what_cannot_be_sent_or_answered_is_said(
    mesh: None, capfdbinary: pytest.CaptureFixture[bytes], arguments: list[str], status: int, words: bytes
) -> None:
    assert entry.run(["call", *arguments]) == status
    assert words in capfdbinary.readouterr().err
