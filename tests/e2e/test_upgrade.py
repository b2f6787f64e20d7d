"""Another Envoy, another Shoal: each takes over under load, and nothing is lost."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import shoal as package
from tests.support.plane import ECHO, Plane, plane
from tests.support.port import free_port
from tests.support.prober import prober

pytestmark = pytest.mark.integration


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Plane, str]]:
    port = free_port()
    files = {"shoal.yaml": f'services:\n  web: {{run: "echo:app", port: {port}, replicas: 2}}\n', "echo.py": ECHO}
    with plane(tmp_path / "app", files=files) as shoal:
        shoal = replace(shoal, environment={"SHOAL_ENVOY_DRAIN_S": "2"})
        shoal.up()
        yield shoal, f"http://127.0.0.1:{port}"
        shoal.note_shared_memory()


def of_web(shoal: Plane) -> dict[str, int]:
    return {name: pid for name, pid in shoal.pids().items() if name.startswith("web")}


def of_version(version: str, folder: Path) -> Mapping[str, str]:
    """The variables with which the command line is that of a copy of Shoal with another version's number."""
    source = Path(package.__file__).parent
    shutil.copytree(source, folder / "shoal", ignore=shutil.ignore_patterns("__pycache__"))
    written = folder / "shoal" / "__init__.py"
    written.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', written.read_text()))
    return {"PYTHONPATH": str(folder)}


def test_envoy_replaced_five_times_loses_no_request(web: tuple[Plane, str]) -> None:
    shoal, url = web
    pids, envoys = of_web(shoal), {shoal.status()["proxy"]["pid"]}
    with prober(url) as probe:
        for _ in range(5):
            shoal.shoal("upgrade", "--envoy")
            envoys.add(shoal.status()["proxy"]["pid"])
    probe.assert_nothing_lost()
    assert len(envoys) == 6
    assert of_web(shoal) == pids
    # The last one dies as the first would: a new beginning follows, with nothing of the others in its way.
    assert shoal.status()["proxy"]["pid"] in envoys
    seen = shoal.status()["sequence"]
    os.kill(shoal.status()["proxy"]["pid"], signal.SIGKILL)
    shoal.wait_for_event("ProxyExited", "proxy", after=seen)
    shoal.wait_for_status(lambda status: status["health"] == "ready", "Envoy again")
    shoal.note_shared_memory()


def test_a_newer_shoal_takes_over_and_an_older_one_refuses(web: tuple[Plane, str], tmp_path: Path) -> None:
    shoal, url = web
    pids = of_web(shoal)
    newer = replace(shoal, environment=of_version("9.0.0", tmp_path / "newer"))
    with prober(url) as probe:
        done = newer.shoal("up", "-d")
        assert "9.0.0 takes over" in done.stderr
        assert newer.status()["version"] == "9.0.0"
        assert of_web(shoal) == pids
        refused = shoal.shoal("up", "-d", check=False)
        assert refused.returncode == 3
        assert "Shoal 9.0.0 runs this app" in refused.stderr
        # The keeper is of the newer one too: it starts no other's daemon again.
        before = newer.status()["daemon_pid"]
        os.kill(before, signal.SIGKILL)
        newer.wait_for_status(lambda status: status["daemon_pid"] != before, "a new daemon")
        assert newer.status()["version"] == "9.0.0"
    probe.assert_nothing_lost()
    assert of_web(shoal) == pids


def test_a_service_manager_watches_and_its_restart_restarts_nothing(tmp_path: Path) -> None:
    """What systemd does with the unit of `shoal install`: start, kill, start again, stop."""
    port = free_port()
    files = {"shoal.yaml": f'services:\n  web: {{run: "echo:app", port: {port}}}\n', "echo.py": ECHO}
    socket_path = tmp_path / "notify"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        plane(tmp_path / "app", files=files) as shoal,
    ):
        manager.bind(str(socket_path))
        manager.settimeout(60)

        def start() -> subprocess.Popen[bytes]:
            main = subprocess.Popen(
                [*shoal.command, "supervise"],
                cwd=shoal.folder,
                env=shoal.env() | {"NOTIFY_SOCKET": str(socket_path)},
                stdout=subprocess.DEVNULL,
            )
            while b"READY=1" not in manager.recv(1000):
                pass
            return main

        main = start()
        pids = shoal.pids()
        with prober(f"http://127.0.0.1:{port}") as probe:
            main.kill()
            main.wait()
            main = start()
            main.terminate()
            assert main.wait(30) == 0
            main = start()
        probe.assert_nothing_lost()
        assert shoal.pids() == pids
        shoal.shoal("down")
        assert main.wait(30) == 0
