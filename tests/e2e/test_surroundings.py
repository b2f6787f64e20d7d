"""What apps need around them, with real processes: files at absolute paths, volumes, static sites, versions."""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.engines.local import interpreters, names
from tests.support.plane import plane
from tests.support.port import free_port
from tests.support.user import NOBODY, UnavailableError, nobody

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not names.detect()[0], reason="takes a file system of its own"),
]

SERVER = """
import http.server, json, os, pathlib, platform

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = pathlib.Path(self.path)
        try:
            body = path.read_text()
        except OSError as error:
            body = f"{type(error).__name__}"
        self.answer(body)
    def do_PUT(self):
        try:
            pathlib.Path(self.path).write_bytes(self.rfile.read(int(self.headers["content-length"])))
            self.answer("kept")
        except OSError as error:
            self.answer(error.strerror)
    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-python", platform.python_version())
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *args):
        pass

port = int(open("/etc/shoal-test/listen.conf").read().split()[1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
INDEX = "<!doctype html><title>Front</title>"


def app(one: int, two: int, site: int, manual: int, gate: int) -> str:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    files = "{/etc/shoal-test/listen.conf: {content: 'listen ${port}'}, /shoal-test/raw: conf/raw.conf}"
    return f"""
services:
  one:
    command: python3 server.py
    python: '{python}'
    port: {one}
    replicas: 2
    files: {files}
    volumes: [data:/var/lib/shoal-test, uploads:/shoal-test/uploads, ./conf:/shoal-test/conf:ro]
  two:
    command: python3 server.py
    python: '{python}'
    port: {two}
    files: {files}
    volumes: [data:/var/lib/shoal-test, uploads:/shoal-test/uploads]
  front:
    static: {{folder: dist, spa: true}}
    port: {site}
  manual:
    cwd: manual
    static: out
    build: mkdir out && tr a-z A-Z < page.txt > out/index.html
    port: {manual}
gateway:
  port: {gate}
  routes:
    /app: {{service: front, strip: true}}
volumes: [uploads]
"""


FILES = {
    "server.py": SERVER,
    "conf/raw.conf": "cost: $$5 ${port}\n",
    "dist/index.html": INDEX,
    "dist/assets/app-3f2a1b9c.js": "1",
    "dist/docs/index.html": "docs",
    "dist/.env": "secret",
    "manual/page.txt": "old",
}


def ask(port: int, path: str, method: str = "GET", body: str | None = None, **headers: str) -> tuple[int, str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


@pytest.fixture(params=["as we are", "as nobody"])
def who(request: pytest.FixtureRequest) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The app's folder, and who runs it."""
    with tempfile.TemporaryDirectory(prefix="shoal-test-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if request.param == "as we are":
            yield folder / "app", {}
            return
        try:
            somebody = nobody(folder)
        except UnavailableError as error:
            pytest.skip(str(error))
        command = [*somebody.python, "-m", "shoal"]
        yield folder / "app", {"command": command, "environment": somebody.environment, "owner": NOBODY}


def test_files_volumes_and_a_site_are_where_the_app_file_says(who: tuple[Path, dict[str, Any]]) -> None:
    folder, more = who
    one, two, site, manual, gate = (free_port() for _ in range(5))
    with plane(folder, files=FILES | {"shoal.yaml": app(one, two, site, manual, gate)}, **more) as shoal:
        shoal.up()
        # Files: content with references, a file as it is, and nobody else sees either.
        assert ask(one, "/etc/shoal-test/listen.conf")[1].startswith("listen ")
        assert ask(one, "/shoal-test/raw")[1] == FILES["conf/raw.conf"]
        assert "Read-only" in ask(one, "/shoal-test/raw", "PUT", "x")[1]
        assert not Path("/etc/shoal-test").exists() and not Path("/shoal-test").exists()
        assert shoal.shoal("exec", "one", "--", "cat", "/shoal-test/conf/raw.conf").stdout == FILES["conf/raw.conf"]
        assert "Read-only" in ask(one, "/shoal-test/conf/new", "PUT", "x")[1]
        # Volumes: one for both replicas, each service's own but for the shared one, and there after `down`.
        assert ask(one, "/var/lib/shoal-test/note", "PUT", "kept by one")[1] == "kept"
        assert {ask(one, "/var/lib/shoal-test/note")[1] for _ in range(6)} == {"kept by one"}
        assert ask(two, "/var/lib/shoal-test/note")[1] == "FileNotFoundError"
        assert ask(two, "/shoal-test/uploads/picture", "PUT", "pixels")[1] == "kept"
        assert ask(one, "/shoal-test/uploads/picture")[1] == "pixels"
        version = ask(one, "/etc/shoal-test/listen.conf")[2]["x-python"]
        assert version.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
        # The site: on its own port, and behind a gateway that takes the path's beginning away.
        assert ask(site, "/")[:2] == (200, INDEX)
        assert ask(gate, "/app/deep/link")[:2] == (200, INDEX)
        assert ask(gate, "/app/assets/app-3f2a1b9c.js")[2]["cache-control"].endswith("immutable")
        assert ask(gate, "/app/docs")[2]["location"] == "docs/"
        assert ask(site, "/.env")[0] == 404
        _, _, headers = ask(site, "/index.html")
        assert ask(site, "/index.html", if_none_match=headers["etag"])[0] == 304
        assert "volume" in shoal.shoal("explain", "one").stdout

        assert ask(manual, "/")[:2] == (200, "OLD")

        shoal.down()
        shoal.up()
        assert ask(one, "/var/lib/shoal-test/note")[1] == "kept by one"
        # Another content is another revision.
        (folder / "conf/raw.conf").write_text("new\n")
        (folder / "manual/page.txt").write_text("new")
        planned = json.loads(shoal.shoal("plan", "--json").stdout)
        reasons = {change["service"]: change["reasons"] for change in planned["changes"]}
        assert "files./shoal-test/raw" in reasons["one"] and "files./shoal-test/raw" in reasons["two"]
        shoal.up()
        assert ask(one, "/shoal-test/raw")[1] == "new\n"
        # What a step made is the revision's, too: going back serves the old files.
        assert ask(manual, "/")[1] == "NEW"
        shoal.shoal("rollback", "manual")
        assert ask(manual, "/")[1] == "OLD"


def test_the_example_counts_its_visits(example: Callable[[str], tuple[Path, dict[int, int]]]) -> None:
    folder, ports = example("static-site")
    with plane(folder) as shoal:
        shoal.up()
        said = {ask(ports[8088], "/api/visit")[1] for _ in range(3)}
        assert said == {f"You are visitor {number}." for number in (1, 2, 3)}
        assert ask(ports[8088], "/about/us")[0] == 200
        assert ask(ports[8088], "/app.js")[2]["content-type"].startswith("text/javascript")
        assert (folder / ".shoal/data/visits/volumes/count/count").read_text() == "3"


def test_what_cannot_be_had_is_refused_with_the_way_out(tmp_path: Path) -> None:
    text = """
services:
  web: {command: 'true', files: {/tmp/shoal-no/such/file: {content: x}}}
  data: {command: 'true', volumes: ['x:/tmp']}
"""
    with plane(tmp_path, files={"shoal.yaml": text}, quiet=True) as shoal:
        done = shoal.shoal("up", "-d", check=False)
        assert done.returncode != 0
        assert "/tmp/shoal-no/such/file does not exist, and /tmp is everybody's" in done.stderr
        assert "make it: mkdir -p /tmp/shoal-no/such && touch /tmp/shoal-no/such/file" in done.stderr
        assert "service 'data': /tmp would hide" in done.stderr
        (tmp_path / "shoal.yaml").write_text("services: {web: {command: 'python3 x.py', python: '3.99'}}")
        done = shoal.shoal("up", "-d", check=False)
        assert "service 'web' wants Python 3.99 ('python' in the app file), and this machine has" in done.stderr


def test_a_service_runs_on_the_python_that_it_asks_for(tmp_path: Path) -> None:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    there = [interpreters.version_of(str(path)) for path in interpreters.candidates("Python")]
    other = next((v for v in there if v and not v.startswith(f"{own}.") and int(v.split(".")[1]) >= 10), None)
    if other is None:
        pytest.skip("there is no second Python here")
    minor = ".".join(other.split(".")[:2])
    web = """
import platform

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": platform.python_version().encode()})
"""
    port = free_port()
    files = {
        "web/shoal_web.py": web,
        "web/requirements.txt": "",
        "web/.python-version": f"{minor}\n",
        "shoal.yaml": f"services: {{web: {{run: 'shoal_web:app', cwd: web, port: {port}}}}}",
    }
    with plane(tmp_path, files=files) as shoal:
        shoal.up()
        assert ask(port, "/")[1].startswith(f"{minor}.")
