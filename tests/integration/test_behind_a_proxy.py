"""nginx and HAProxy of the distribution before the gateway, with the files of the how-to; and who is believed."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shoal.spec.load import load_text
from shoal.spec.problems import SpecError
from tests.e2e.test_hello import curl
from tests.e2e.test_polyglot import websocket_echo
from tests.support.plane import plane
from tests.support.port import free_port
from tests.support.prober import Kind, prober
from tests.support.processes import until

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "behind-nginx-or-haproxy.md"
CLIENT = "127.0.0.9"
CLAIMED = "203.0.113.66"
CLAIMS = ("x-forwarded-for", "x-real-ip", "forwarded", "x-forwarded-host", "x-envoy-upstream-rq-timeout-ms")
TELLER = '''
"""Tells the headers of a request, and sends back what comes by a WebSocket."""
import json


async def app(scope, receive, send):
    if scope["type"] == "http":
        body = json.dumps({name.decode(): value.decode() for name, value in scope["headers"]}).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "welcome"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
'''


def block(language: str) -> str:
    [found] = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def app_file(port: int, trusted: str | None = None) -> str:
    text = block("yaml").replace("8080", str(port)).replace("    port: 3000\n", "    port: 3000\n    publish: false\n")
    if trusted is not None:
        text = re.sub(r"trusted_proxies: .*", f"trusted_proxies: {trusted}", text)
    return text


def certificate(folder: Path) -> Path:
    """Certificate and key in one file."""
    both, key = folder / "both.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", both], check=True, capture_output=True)
    both.write_text(both.read_text() + key.read_text())
    return both


def nginx(folder: Path, text: str) -> list[str]:
    temporary = " ".join(f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = folder / "nginx.conf"
    user = "user root;" if folder.owner() == "root" else ""
    config.write_text(
        f"{user} daemon off; worker_processes 1; pid nginx.pid; error_log stderr;\n"
        f"events {{ }}\nhttp {{ access_log off; {temporary}\n{text} }}\n"
    )
    return ["nginx", "-p", f"{folder}/", "-c", str(config), "-e", "stderr"]


def haproxy(folder: Path, text: str) -> list[str]:
    config = folder / "haproxy.cfg"
    config.write_text(f"defaults\n    timeout connect 5s\n    timeout client 50s\n    timeout server 50s\n\n{text}")
    return ["haproxy", "-db", "-f", str(config)]


@contextmanager
def proxy(name: str, folder: Path, gateway: int) -> Iterator[int]:
    """The proxy with the how-to's file, on a port of its own and with a certificate of its own."""
    for tool in (name, "openssl"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}")
    folder.mkdir()
    port = free_port()
    text = (
        block(name)
        .replace("8080", str(gateway))
        .replace("/etc/ssl/private/shop.example.com.pem", str(certificate(folder)))
    )
    if name == "nginx":
        assert "listen 443" in text
        command = nginx(folder, text.replace("listen 443", f"listen 127.0.0.1:{port}"))
    else:
        assert "bind :443" in text
        command = haproxy(folder, text.replace("bind :443", f"bind 127.0.0.1:{port}"))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or answers(port), f"an answer of {name}", within_s=20)
        assert process.poll() is None, (folder / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(20)


def answers(port: int) -> bool:
    try:
        ssl.get_server_certificate(("127.0.0.1", port), timeout=5)
    except OSError:
        return False
    return True


def told(url: str, *, source: str = CLIENT) -> dict[str, str]:
    """The headers that the service got from a client that claims to be another."""
    claims = [part for name in CLAIMS for part in ("-H", f"{name}: {'1' if 'envoy' in name else CLAIMED}")]
    found: dict[str, str] = json.loads(curl("-k", "--interface", source, *claims, url))
    return found


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_behind_it_a_service_is_told_who_calls_and_by_what(tmp_path: Path, name: str) -> None:
    port = free_port()
    with plane(tmp_path / "app", files={"shoal.yaml": app_file(port), "web.py": TELLER}) as shoal:
        shoal.up()
        with proxy(name, tmp_path / name, port) as front:
            headers = told(f"https://127.0.0.1:{front}/")
            assert headers["x-forwarded-for"] == CLIENT
            assert headers["x-forwarded-proto"] == "https"
            assert headers["host"].startswith("127.0.0.1")
            assert not [h for h in headers if h.startswith("x-envoy-") and headers[h] == "1"]
            assert websocket_echo(front, "/", "through two proxies", tls=True) == "welcome"
            big = "x" * 20_000
            assert json.loads(curl("-k", "-d", big, f"https://127.0.0.1:{front}/"))["content-length"] == "20000"


def test_nobody_is_believed_but_those_that_are_named(tmp_path: Path) -> None:
    port = free_port()
    files = {"shoal.yaml": app_file(port, f"[{CLIENT}]"), "web.py": TELLER}
    with plane(tmp_path / "app", files=files) as shoal:
        shoal.up()
        assert_not_believed(told(f"http://127.0.0.1:{port}/", source="127.0.0.10"))
        assert_not_believed(told(f"http://127.0.0.1:{port}/", source="127.0.0.1"))
        believed = told(f"http://127.0.0.1:{port}/", source=CLIENT)
        assert {believed[name] for name in CLAIMS[:4]} == {CLAIMED}
        assert "x-envoy-upstream-rq-timeout-ms" not in believed  # what is Envoy's is no proxy's to say

        # Somebody is named, and later nobody: what is served meanwhile goes on.
        with prober(f"http://127.0.0.1:{port}", kinds=[Kind.GET]) as probe:
            (shoal.folder / "shoal.yaml").write_text(app_file(port, "[]"))
            shoal.up()
            until(lambda: CLAIMED not in told(f"http://127.0.0.1:{port}/").values(), "the change", within_s=20)
        probe.assert_nothing_lost(kinds=[Kind.GET])
        assert_not_believed(told(f"http://127.0.0.1:{port}/"))


def assert_not_believed(headers: dict[str, str]) -> None:
    assert CLAIMED not in json.dumps(headers), headers
    assert headers["x-forwarded-proto"] == "http"
    assert "x-envoy-upstream-rq-timeout-ms" not in headers


def test_the_app_file_of_the_page_is_valid_and_names_both_addresses(tmp_path: Path) -> None:
    app = load_text(block("yaml").encode(), PAGE.name, tmp_path, {}, "host")
    assert app.gateway is not None
    assert app.gateway.trusted_proxies == ("127.0.0.1/32", "::1/128")


def flaws(written: str, tmp_path: Path) -> str:
    text = app_file(8080, written)
    with pytest.raises(SpecError) as caught:
        load_text(text.encode(), "shoal.yaml", tmp_path, {}, "host")
    [problem] = caught.value.problems
    assert problem.line == 1 + text[: text.index("trusted_proxies")].count("\n")
    return f"{problem.path}: {problem.message}; {problem.way_out}"


@pytest.mark.parametrize("written", ["[nginx]", "[10.0.0.0/33]", "[7]", "[localhost]"])
def test_what_is_no_network_is_told_with_its_place(written: str, tmp_path: Path) -> None:
    said = flaws(written, tmp_path)
    assert said.startswith("gateway.trusted_proxies[0]: must be an IP address or a network; write it like 127.0.0.1")
