"""Servers that hard-code the port of their service, in node and Python, moved to another."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shoal.engines.local import preload
from tests.support.port import free_port

pytestmark = pytest.mark.integration

NODE = {
    "port alone": "http.createServer(answer).listen(PORT)",
    "port and callback": "http.createServer(answer).listen(PORT, () => console.log('up'))",
    "port as text": "http.createServer(answer).listen('PORT')",
    "host": "http.createServer(answer).listen(PORT, '0.0.0.0')",
    "host, backlog, callback": "http.createServer(answer).listen(PORT, '::', 10, () => 0)",
    "no host, callback": "http.createServer(answer).listen(PORT, undefined, () => 0)",
    "backlog": "http.createServer(answer).listen(PORT, 10)",
    "options": "http.createServer(answer).listen({port: PORT, host: '::', ipv6Only: true})",
    "net": "net.createServer((s) => s.end('HTTP/1.0 200 OK\\r\\n\\r\\nhello')).listen(PORT)",
}
PYTHON = {
    "http.server": """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"hello")
http.server.ThreadingHTTPServer(("0.0.0.0", PORT), Answer).serve_forever()
""",
    "asyncio, one address": """
import asyncio
async def answer(reader, writer):
    await reader.readline()
    writer.write(b"HTTP/1.0 200 OK\\r\\n\\r\\nhello"); await writer.drain(); writer.close()
async def main():
    server = await asyncio.start_server(answer, host=["127.0.0.1"], port=PORT)
    await server.serve_forever()
asyncio.run(main())
""",
    "asyncio, every address": """
import asyncio
async def answer(reader, writer):
    await reader.readline()
    writer.write(b"HTTP/1.0 200 OK\\r\\n\\r\\nhello"); await writer.drain(); writer.close()
async def main():
    server = await asyncio.start_server(answer, host=None, port=PORT)
    await server.serve_forever()
asyncio.run(main())
""",
    "a socket on ::": """
import socket
s = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c, _ = s.accept(); c.recv(1000); c.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nhello"); c.close()
""",
}


@contextmanager
def _serving(argv: list[str], declared: int, own: int, folder: Path, extra: dict[str, str]) -> Iterator[None]:
    env = {"PATH": os.environ["PATH"], **extra}
    env |= preload.variables(env, {declared: own})
    process = subprocess.Popen(argv, env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield
    finally:
        process.kill()
        _, errors = process.communicate(timeout=10)
        print(errors.decode())


def _answer(port: int, *, within_s: float = 20.0) -> bytes:
    deadline = time.monotonic() + within_s
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return b"".join(iter(lambda: connection.recv(4096), b""))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("call", NODE.values(), ids=NODE)
def test_a_node_server_listens_on_its_own_port(call: str, tmp_path: Path) -> None:
    declared, own = free_port(), free_port()
    head = "const http = require('http'), net = require('net'); const answer = (q, r) => r.end('hello');"
    (tmp_path / "server.js").write_text(f"{head}\n{call.replace('PORT', str(declared))};\n")
    with _serving(["node", "server.js"], declared, own, tmp_path, {"NODE_OPTIONS": "--no-warnings"}):
        assert _answer(own).endswith(b"hello")
        assert _is_free(declared)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_a_node_module_and_another_port_work_as_ever(tmp_path: Path) -> None:
    declared, own, other = free_port(), free_port(), free_port()
    listens = "http.createServer((q, r) => r.end('hello')).listen"
    (tmp_path / "server.mjs").write_text(f"import http from 'http';\n{listens}({declared});\n{listens}({other});\n")
    with _serving(["node", "server.mjs"], declared, own, tmp_path, {}):
        assert _answer(own).endswith(b"hello")
        assert _answer(other).endswith(b"hello")


@pytest.mark.parametrize("code", PYTHON.values(), ids=PYTHON)
def test_a_python_server_listens_on_its_own_port(code: str, tmp_path: Path) -> None:
    declared, own = free_port(), free_port()
    (tmp_path / "server.py").write_text(code.replace("PORT", str(declared)))
    with _serving([sys.executable, "server.py"], declared, own, tmp_path, {}):
        assert _answer(own).endswith(b"hello")
        assert _is_free(declared)


def test_a_sitecustomize_of_the_users_own_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['MINE'] = 'yes'\n")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    env |= preload.variables(env, {3000: 41233})
    code = "import os, sitecustomize; print(os.environ['MINE'])"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "yes\n"


def test_nothing_is_added_where_nothing_moves() -> None:
    assert preload.variables({"NODE_OPTIONS": "--x"}, {3000: 3000}) == {}
    added = preload.variables({"NODE_OPTIONS": "--x", "PYTHONPATH": "/mine"}, {3000: 1, 9000: 2})
    assert added["NODE_OPTIONS"].endswith('move_ports.cjs" --x')
    assert added["PYTHONPATH"].endswith(":/mine")
    assert added[preload.MOVES] == "3000:1,9000:2"
