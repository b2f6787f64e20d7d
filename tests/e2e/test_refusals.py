"""What cannot work says so: what, whose, and the way out; and `explain` says why all else is as it is."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from tests.support.plane import ECHO, plane
from tests.support.port import free_port

pytestmark = pytest.mark.integration

WRONG = """app: shop
services:
  web:
    run: echo
    port: 99999
    replica: 3
  worker:
    command: [sleep, "1000"]
    calls: [wep]
gateway:
  port: 8080
  routes:
    users: web
"""


@pytest.mark.parametrize("command", [["check"], ["up", "-d"]])
def test_a_wrong_app_file_reports_all_its_errors_with_line_and_column(tmp_path: Path, command: list[str]) -> None:
    with plane(tmp_path / "app", files={"shoal.yaml": WRONG}) as shoal:
        done = shoal.shoal(*command, check=False)
        said = done.stdout + done.stderr
        assert done.returncode != 0
        for place in ("shoal.yaml:4:", "shoal.yaml:5:", "shoal.yaml:6:", "shoal.yaml:9:", "shoal.yaml:13:"):
            assert place in said, place
        assert "replicas" in said  # did you mean
        assert not shoal.run.exists() or not list(shoal.run.glob("*.sock"))


def test_a_taken_port_names_its_owner(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        app = f"services: {{web: {{run: 'echo:app', port: {port}}}}}"
        with plane(tmp_path / "app", files={"shoal.yaml": app, "echo.py": ECHO}) as shoal:
            done = shoal.shoal("up", "-d", check=False)
            said = done.stdout + done.stderr
            assert done.returncode != 0
            assert "web" in said and str(port) in said and f"pid {os.getpid()}" in said


def test_a_port_taken_by_another_app_names_that_one(tmp_path: Path) -> None:
    app = f"services: {{web: {{run: 'echo:app', port: {free_port()}}}}}"
    files = {"shoal.yaml": app, "echo.py": ECHO}
    with plane(tmp_path / "one", files=files) as one, plane(tmp_path / "two", files=files) as two:
        one.up()
        done = two.shoal("up", "-d", check=False)
        assert done.returncode != 0
        assert f"pid {one.pids()['envoy']}" in done.stdout + done.stderr


def test_a_service_that_raises_on_import_shows_the_file_and_the_end_of_the_traceback(tmp_path: Path) -> None:
    broken = "import os\n\n\ndef connect():\n    raise RuntimeError('DATABASE is not set')\n\n\nconnect()\napp = None\n"
    app = f"services: {{web: {{run: 'broken:app', port: {free_port()}}}}}"
    with plane(tmp_path / "app", files={"shoal.yaml": app, "broken.py": broken}) as shoal:
        done = shoal.shoal("up", "-d", check=False)
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert "RuntimeError: DATABASE is not set" in said
        assert "broken.py" in said and "line 5" in said


@pytest.mark.parametrize(
    ("target", "source", "words"),
    [
        ("nosuch:app", "", "nosuch"),
        ("empty:app", "x = 1\n", "app"),
        ("empty:app", "app = 1\n", "cannot serve empty:app"),
        ("empty:app", "import nosuchpackage\napp = 1\n", "nosuchpackage"),
    ],
)
def test_an_application_that_is_not_there_is_named(tmp_path: Path, target: str, source: str, words: str) -> None:
    app = f"services: {{web: {{run: '{target}', port: {free_port()}}}}}"
    with plane(tmp_path / "app", files={"shoal.yaml": app, "empty.py": source}) as shoal:
        done = shoal.shoal("up", "-d", check=False)
        assert done.returncode != 0
        assert words in done.stdout + done.stderr


def test_a_crash_loop_is_reported_with_exit_code_and_last_lines(tmp_path: Path) -> None:
    crasher = (
        "import sys\nfor n in range(50):\n    print('line', n)\nprint('no license key', file=sys.stderr)\nsys.exit(3)\n"
    )
    app = f"""
services:
  web: {{run: "echo:app", port: {free_port()}}}
  crasher: {{command: ["{sys.executable}", crasher.py]}}
"""
    with plane(tmp_path / "app", files={"shoal.yaml": app, "echo.py": ECHO, "crasher.py": crasher}) as shoal:
        done = shoal.shoal("up", "-d", check=False)
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert "crasher" in said and "exit code 3" in said and "no license key" in said
        event = shoal.wait_for_event("CrashLoopDetected", "crasher-r1")
        assert event["data"]["code"] == 3
        assert event["data"]["tail"][-1].endswith("no license key") and len(event["data"]["tail"]) == 20
        explained = shoal.shoal("explain", "crasher").stdout
        assert "crash loop" in explained and "exit code 3" in explained
        # One broken service stops no other.
        assert [replica["state"] for replica in shoal.replicas("web")] == ["ready"]


def test_explain_tells_why_each_replica_is_as_it_is(tmp_path: Path) -> None:
    app = f"""
services:
  product-service: {{run: "echo:app", port: {free_port()}}}
  cart-service: {{run: "echo:app", port: {free_port()}, replicas: 3, calls: [product-service]}}
"""
    with plane(tmp_path / "app", files={"shoal.yaml": app, "echo.py": ECHO}) as shoal:
        shoal.up()
        said = shoal.shoal("explain", "cart-service").stdout
        for replica in ("cart-service-r1", "cart-service-r2", "cart-service-r3"):
            assert replica in said
        assert "answers" in said and "product-service" in said
        told = json.loads(shoal.shoal("explain", "cart-service", "--json").stdout)
        assert [replica["reason"] for replica in told["service"]["replicas"]] == ["answers its probe"] * 3
        assert told["reaches"]["product-service"].startswith("127.")
        done = shoal.shoal("explain", "card-service", check=False)
        assert done.returncode == 2 and "cart-service" in done.stderr + done.stdout


def test_commands_without_a_plane_say_how_to_start_one(tmp_path: Path) -> None:
    app = f"services: {{web: {{run: 'echo:app', port: {free_port()}}}}}"
    with plane(tmp_path / "app", files={"shoal.yaml": app, "echo.py": ECHO}) as shoal:
        for command in (["status"], ["explain", "web"], ["scale", "web", "2"], ["logs", "web"]):
            done = shoal.shoal(*command, check=False)
            assert done.returncode == 4, command
            assert "shoal up" in done.stdout + done.stderr
