"""The smallest app there is, from `shoal up` to `shoal down`."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.plane import ECHO, plane
from tests.support.port import free_port
from tests.support.processes import mentioning

pytestmark = pytest.mark.integration

Example = Callable[[str], tuple[Path, dict[int, int]]]


def curl(*arguments: str) -> str:
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "10", "--noproxy", "*", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_plain_flask_services_answer_by_curl_and_down_leaves_nothing(example: Example) -> None:
    folder, ports = example("hello")
    with plane(folder) as shoal:
        shoal.up()
        for path, port in (("/hello", ports[8080]), ("/world", ports[8081])):
            assert json.loads(curl(f"localhost:{port}{path}")) == {"message": "Hello, World!"}
            assert json.loads(curl("-6", f"http://localhost:{port}{path}")) == {"message": "Hello, World!"}
        assert "ready" in shoal.shoal("status").stdout
        shoal.down()
        shoal.assert_nothing_left()


def test_requests_spread_over_the_replicas_and_each_answer_names_its_own(tmp_path: Path) -> None:
    port = free_port()
    app = f"services: {{web: {{run: 'echo:app', port: {port}, replicas: 3}}}}"
    with plane(tmp_path / "app", files={"shoal.yaml": app, "echo.py": ECHO}) as shoal:
        shoal.up()
        told = [curl("-D", "-", f"localhost:{port}/") for _ in range(60)]
        named = Counter(line.split()[1] for text in told for line in text.splitlines() if "x-shoal-replica" in line)
        assert set(named) == {"web-r1", "web-r2", "web-r3"} and named.total() == 60
        assert min(named.values()) >= 5, named
        pids = shoal.pids()
        for text in told:
            body = json.loads(text.splitlines()[-1])
            replica = next(line.split()[1] for line in text.splitlines() if "x-shoal-replica" in line)
            assert body["pid"] == pids[replica]


def test_an_app_needs_no_file_at_all(tmp_path: Path) -> None:
    port = free_port()
    with plane(tmp_path / "app", files={"echo.py": ECHO}) as shoal:
        shoal.shoal("up", "-d", "echo:app", "--port", str(port))
        shoal.note_shared_memory()
        assert json.loads(curl(f"localhost:{port}"))["pid"] in shoal.pids().values()


@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM])
def test_up_in_the_foreground_ends_with_the_app_gone(tmp_path: Path, interrupt: signal.Signals) -> None:
    port = free_port()
    app = f"services: {{web: {{run: 'echo:app', port: {port}}}}}"
    with plane(tmp_path / "app", files={"shoal.yaml": app, "echo.py": ECHO}) as shoal:
        with subprocess.Popen(
            [*shoal.command, "up"], cwd=shoal.folder, env=shoal.env(), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert any(" is up" in line for line in process.stdout)
            shoal.note_shared_memory()
            assert json.loads(curl(f"localhost:{port}"))["service"] == "web"
            process.send_signal(interrupt)
            print(process.stdout.read())
            assert process.wait(30) == 0
        shoal.assert_nothing_left()


def test_up_twice_changes_nothing_and_down_twice_neither(tmp_path: Path) -> None:
    port = free_port()
    app = f"services: {{web: {{run: 'echo:app', port: {port}}}}}"
    with plane(tmp_path / "app", files={"shoal.yaml": app, "echo.py": ECHO}) as shoal:
        shoal.up()
        pids = shoal.pids()
        shoal.up()
        assert shoal.pids() == pids
        shoal.down()
        assert not mentioning(shoal.root, shoal.run)
        shoal.shoal("down", check=False)


def test_scale_and_restart_change_what_runs(tmp_path: Path) -> None:
    port = free_port()
    app = f"services: {{web: {{run: 'echo:app', port: {port}}}}}"
    with plane(tmp_path / "app", files={"shoal.yaml": app, "echo.py": ECHO}) as shoal:
        shoal.up()
        shoal.shoal("scale", "web", "2")
        ready = "two ready replicas"
        shoal.wait_for_status(lambda status: status["services"][0]["ready"] == 2, ready)
        before = {replica["id"] for replica in shoal.replicas("web")}
        shoal.shoal("restart", "web")
        shoal.wait_for_status(
            lambda status: (
                status["services"][0]["ready"] == 2
                and len(status["services"][0]["replicas"]) == 2
                and not before & {replica["id"] for replica in status["services"][0]["replicas"]}
            ),
            "two new replicas",
        )
        shoal.shoal("logs", "web")
        answer = shoal.shoal("call", "web", "/from-call")
        assert json.loads(answer.stdout.splitlines()[-1])["path"] == "/from-call"
