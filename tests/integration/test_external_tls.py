"""`external` over TLS: a real server with a certificate by an authority of its own, and Envoy that looks at it."""

from __future__ import annotations

import asyncio
import http.server
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shoal.model.app import App, Command, External, Protocol, Service
from tests.support.envoy import rig

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed: apt-get install openssl"),
]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.connection, ssl.SSLSocket)
        body = f"{self.headers['host']} {self.connection.version()}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass  # callers that do not believe us


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem`, another's `other.pem`, and `server.pem` for *.shop.test and 127.0.0.1."""
    folder = tmp_path_factory.mktemp("authority")
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        openssl(*new, "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem")
    openssl(
        *(*new, "-subj", "/CN=server", "-addext", "subjectAltName=DNS:*.shop.test,IP:127.0.0.1"),
        *("-addext", "basicConstraints=CA:FALSE", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key"),
        *("-keyout", folder / "server.key", "-out", folder / "server.pem"),
    )
    return folder


@contextmanager
def serving(authority: Path) -> Iterator[int]:
    """Its port on 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def test_only_a_certificate_for_the_name_by_a_believed_authority_is_taken(authority: Path) -> None:
    ca, other = str(authority / "ca.pem"), str(authority / "other.pem")
    cases = {
        "named": (External(host="localhost", port=0, tls=True, sni="api.shop.test", ca=ca), Protocol.HTTP, 200),
        "by-address": (External(host="127.0.0.1", port=0, tls=True, ca=ca), Protocol.HTTP, 200),
        "bytes": (External(host="127.0.0.1", port=0, tls=True, ca=ca), Protocol.TCP, 200),
        "other-name": (External(host="127.0.0.1", port=0, tls=True, sni="shop.example.com", ca=ca), Protocol.HTTP, 503),
        "its-host": (External(host="localhost", port=0, tls=True, ca=ca), Protocol.HTTP, 503),
        "other-authority": (External(host="127.0.0.1", port=0, tls=True, ca=other), Protocol.HTTP, 503),
    }

    async def main() -> None:
        with serving(authority) as port:
            services = [
                Service(
                    name=name,
                    workload=External(host=w.host, port=port, tls=True, sni=w.sni, ca=w.ca),
                    folder="/",
                    port=8000,
                    replicas=0,
                    protocol=protocol,
                )
                for name, (w, protocol, _) in cases.items()
            ]
            client = Service(name="client", workload=Command(argv=("x",)), folder="/", calls=tuple(cases))
            async with rig(App(name="app", services=(client, *services)), ipv6=False) as made:
                await made.apply()
                for name, (_, _, status) in cases.items():
                    assert made.edges is not None
                    url = f"http://{made.edges.address('client', name)}:8000/"
                    curl = await asyncio.create_subprocess_exec(
                        *("curl", "-sS", "--noproxy", "*", "--max-time", "20", "-w", " %{http_code}", url),
                        stdout=asyncio.subprocess.PIPE,
                    )
                    said = (await curl.communicate())[0].decode()
                    assert said.endswith(f" {status}"), (name, said)
                    if status == 200:
                        assert "TLSv1.3" in said
                        host = "localhost" if name == "named" else "127.0.0.1"
                        assert said.startswith(f"{host}:{port} ") or name == "bytes", (name, said)
                    else:
                        assert "connection-failed" in said

    asyncio.run(main())
