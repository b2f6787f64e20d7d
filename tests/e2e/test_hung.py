"""Replicas that live and answer nobody: stopped by SIGSTOP, or waiting for a lock that nobody gives back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.plane import ECHO, Plane, plane
from tests.support.port import free_port
from tests.support.prober import Kind, prober

pytestmark = pytest.mark.integration

DEADLOCK = '''
"""As echo, until a file with its replica's name is there: then it waits for a lock that it holds itself."""
import os
import pathlib
import threading

import echo

_lock = threading.Lock()


async def app(scope, receive, send):
    orders = pathlib.Path(os.environ["ORDERS"], "deadlock-" + os.environ["SHOAL_REPLICA"])
    if orders.exists():
        orders.unlink()
        with _lock, _lock:
            pass
    await echo.app(scope, receive, send)
'''
FAST = "{path: /, interval: 200ms, timeout: 500ms, failures: 2}"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plane, str, str]]:
    web, stuck = free_port(), free_port()
    folder = tmp_path_factory.mktemp("hung") / "app"
    text = f"""
defaults: {{env: {{ORDERS: "{folder}"}}}}
services:
  web: {{run: "echo:app", port: {web}, replicas: 3, liveness: {FAST}}}
  stuck: {{run: "deadlock:app", port: {stuck}, replicas: 2, liveness: {FAST}, stop_signal: SIGKILL}}
"""
    files = {"shoal.yaml": text, "echo.py": ECHO, "deadlock.py": DEADLOCK}
    with plane(folder, files=files) as shoal:
        shoal.up()
        yield shoal, f"http://127.0.0.1:{web}", f"http://127.0.0.1:{stuck}"


def restarted(shoal: Plane, victim: str, seen: int) -> list[str]:
    """Waits until it is ready again; the kinds of events it went through on its way."""
    shoal.wait_for_event("ReplicaCondemned", victim, after=seen)
    shoal.wait_for_event("ReplicaReady", victim, after=seen)
    return [e["kind"] for e in shoal.events() if e["subject"] == victim and e["sequence"] > seen]


def test_a_stopped_replica_of_three_is_restarted_and_no_request_is_lost(app: tuple[Plane, str, str]) -> None:
    shoal, url, _ = app
    pids, seen = shoal.pids(), shoal.status()["sequence"]
    with prober(url) as probe:
        os.kill(pids["web-r1"], signal.SIGSTOP)
        kinds = restarted(shoal, "web-r1", seen)
        before = probe.report()[Kind.GET].replicas["web-r1"]
        shoal.eventually(lambda: probe.report()[Kind.GET].replicas["web-r1"] > before, "answers of the restarted one")
    # Also those in flight on it: continued after its SIGTERM, it answers what it has, and then ends.
    probe.assert_nothing_lost()
    assert kinds[:3] == ["ReplicaCondemned", "StopSent", "ReplicaExited"]
    assert shoal.pids()["web-r1"] != pids["web-r1"]
    said = shoal.wait_for_event("ReplicaCondemned", "web-r1", after=seen)
    assert said["message"] == (
        "liveness probe (/) failed 2 times in a row: no answer in 0.5 s; out of Envoy, then started again"
    )
    scheduled = shoal.wait_for_event("ReplicaScheduled", "web-r1", after=seen)
    assert "liveness probe (/) failed 2 times in a row: no answer in 0.5 s; back-off" in scheduled["message"]
    assert "/, every 0.2 s, timeout 0.5 s, 2 failures" in shoal.shoal("explain", "web").stdout


def test_a_deadlocked_replica_is_restarted_and_no_repeatable_request_is_lost(app: tuple[Plane, str, str]) -> None:
    shoal, _, url = app
    pids, seen = shoal.pids(), shoal.status()["sequence"]
    with prober(url, kinds=[Kind.GET, Kind.KEYED]) as probe:
        (shoal.folder / "deadlock-stuck-r2").touch()
        restarted(shoal, "stuck-r2", seen)
    probe.assert_nothing_lost()
    assert shoal.pids()["stuck-r2"] != pids["stuck-r2"]
    assert shoal.pids()["stuck-r1"] == pids["stuck-r1"]
