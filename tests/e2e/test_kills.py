"""kill -9 of each part under load: what is lost, what comes back, what stays."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.plane import ECHO, Plane, plane
from tests.support.port import free_port
from tests.support.prober import Kind, prober

pytestmark = pytest.mark.integration

TICKER = """
import itertools, time
for number in itertools.count():
    print(f"tick {number} of a chatty service", flush=True)
    time.sleep(0.01)
"""
CHATTY_ECHO = ECHO.replace("    told = ", '    print("told", next(counter), flush=True)\n    told = ').replace(
    "import os\n", "import itertools\nimport os\n\ncounter = itertools.count()\n"
)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Plane, str]]:
    """Three replicas that print a line for each request, and a worker that prints without end."""
    port = free_port()
    app = f"""
services:
  web: {{run: "echo:app", port: {port}, replicas: 3}}
  ticker: {{command: ["{sys.executable}", ticker.py]}}
"""
    files = {"shoal.yaml": app, "echo.py": CHATTY_ECHO, "ticker.py": TICKER}
    with plane(tmp_path / "app", files=files) as shoal:
        shoal.up()
        yield shoal, f"http://127.0.0.1:{port}"


def test_a_killed_daemon_loses_no_request_and_is_back_with_the_same_pids(web: tuple[Plane, str]) -> None:
    shoal, url = web
    pids = shoal.pids()
    gone_s = []
    with prober(url) as probe:
        for _ in range(10):
            daemon = shoal.status()["daemon_pid"]
            os.kill(daemon, signal.SIGKILL)
            killed = time.monotonic()
            shoal.wait_for_status(lambda status, old=daemon: status["daemon_pid"] != old, "a new daemon")  # type: ignore[misc]
            gone_s.append(time.monotonic() - killed)
            shoal.wait_for_status(lambda status: status["health"] == "ready", "ready")
    probe.assert_nothing_lost()
    assert shoal.pids() == pids
    print("the daemon was back after", [f"{each:.2f} s" for each in gone_s])
    assert "DaemonStarted" in {event["kind"] for event in shoal.events()}


def test_a_killed_keeper_loses_no_request_no_process_and_no_log_line(web: tuple[Plane, str]) -> None:
    shoal, url = web
    pids = shoal.pids()
    ticker = next(name for name in pids if name.startswith("ticker"))
    with prober(url) as probe:
        for _ in range(10):
            old, newest = shoal.keeper_pid(), last_tick(shoal, ticker)
            os.kill(old, signal.SIGKILL)
            shoal.eventually(lambda old=old: shoal.keeper_pid() != old, "a new keeper")  # type: ignore[misc]
            shoal.eventually(lambda newest=newest: last_tick(shoal, ticker) > newest + 50, "new lines of the ticker")  # type: ignore[misc]
    probe.assert_nothing_lost()
    assert shoal.pids() == pids
    assert {event["kind"] for event in shoal.events()} >= {"KeeperLost", "KeeperAttached"}
    ticks = [int(number) for number in re.findall(r"tick (\d+) of a chatty service", shoal.log_text("ticker", ticker))]
    assert ticks == list(range(len(ticks)))
    for replica in (name for name in pids if name.startswith("web")):
        counts = [int(number) for number in re.findall(r"told (\d+)", shoal.log_text("web", replica))]
        assert counts == list(range(len(counts)))
    answered = sum(tally.ok for tally in probe.report().values())
    assert answered > 300


def last_tick(shoal: Plane, replica: str) -> int:
    found = re.findall(r"tick (\d+) of a chatty service\n", shoal.log_text("ticker", replica))
    return int(found[-1]) if found else -1


def test_with_both_killed_all_goes_on_and_the_next_up_finds_it(web: tuple[Plane, str]) -> None:
    shoal, url = web
    pids = shoal.pids()
    keeper, daemon = shoal.keeper_pid(), shoal.status()["daemon_pid"]
    with prober(url) as probe:
        os.kill(keeper, signal.SIGKILL)
        os.kill(daemon, signal.SIGKILL)
        probe.wait_for_answers(50)
        shoal.up()
    probe.assert_nothing_lost()
    assert shoal.pids() == pids
    assert shoal.keeper_pid() != keeper


def test_a_hanging_replica_loses_no_request_that_may_be_repeated(web: tuple[Plane, str]) -> None:
    shoal, url = web
    victim = shoal.pids()["web-r2"]
    with prober(url) as probe:
        seen = shoal.status()["sequence"]
        os.kill(victim, signal.SIGSTOP)
        try:
            shoal.wait_for_event("ReplicaUnready", "web-r2", after=seen)
            probe.wait_for_answers(100)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGCONT)
    probe.assert_nothing_lost(kinds=[Kind.GET, Kind.KEYED])
    slowest = max(probe.report()[kind].slowest_s for kind in (Kind.GET, Kind.KEYED))
    print(f"the slowest answer took {slowest:.2f} s")


def test_a_killed_replica_loses_no_get_and_is_replaced_and_listed(web: tuple[Plane, str]) -> None:
    shoal, url = web
    pids = shoal.pids()
    with prober(url) as probe:
        for number in (1, 2, 3):
            victim = f"web-r{number}"
            seen = shoal.status()["sequence"]
            os.kill(pids[victim], signal.SIGKILL)
            ended = shoal.wait_for_event("ReplicaExited", victim, after=seen)
            assert ended["data"]["code"] == -signal.SIGKILL
            shoal.wait_for_status(lambda status: status["services"][0]["ready"] == 3, "three ready replicas again")
    probe.assert_nothing_lost(kinds=[Kind.GET, Kind.KEYED])
    lost_posts = probe.report()[Kind.POST].lost
    assert len(lost_posts) <= 9, f"more than were in flight\n{probe.summary()}"
    after = shoal.pids()
    assert all(after[f"web-r{number}"] != pids[f"web-r{number}"] for number in (1, 2, 3))
    assert after["envoy"] == pids["envoy"]
    listed = shoal.shoal("events").stdout
    assert "web-r1" in listed and "signal 9" in listed


def test_a_replica_killed_each_second_for_half_a_minute_loses_no_get(web: tuple[Plane, str]) -> None:
    """Whichever runs; the back-off of one that lasts must not grow until all three wait for theirs."""
    shoal, url = web
    dice = random.Random(7)
    kills = 30
    with prober(url) as probe:
        for _ in range(kills):
            running = [pid for name, pid in shoal.pids().items() if name.startswith("web")]
            with contextlib.suppress(ProcessLookupError):
                os.kill(dice.choice(running), signal.SIGKILL)
            probe.wait_for_answers(66)  # of each kind: what is sent in a second
            # On a busy machine one takes longer than that to start: nobody serves once the last of three is killed.
            shoal.wait_for_status(lambda status: status["services"][0]["ready"] >= 2, "two ready replicas")
        shoal.wait_for_status(lambda status: status["services"][0]["ready"] == 3, "three ready replicas again")
    probe.assert_nothing_lost(kinds=[Kind.GET, Kind.KEYED])
    lost_posts = probe.report()[Kind.POST].lost
    assert len(lost_posts) <= 3 * kills, f"more than were in flight\n{probe.summary()}"
    print(f"{len(lost_posts)} POSTs were in flight on a replica that was killed")


def test_a_rolling_restart_loses_nothing(web: tuple[Plane, str]) -> None:
    shoal, url = web
    pids = shoal.pids()
    with prober(url) as probe:
        shoal.shoal("restart", "web")
        shoal.wait_for_status(
            lambda status: (
                status["services"][0]["ready"] == 3
                and not {replica["id"] for replica in status["services"][0]["replicas"]} & pids.keys()
            ),
            "three new replicas",
            within_s=60,
        )
    probe.assert_nothing_lost()


def test_a_killed_envoy_comes_back_on_the_same_port(web: tuple[Plane, str]) -> None:
    shoal, url = web
    pids = shoal.pids()
    shoal.note_shared_memory()
    os.kill(pids["envoy"], signal.SIGKILL)
    shoal.wait_for_event("ProxyExited")
    shoal.wait_for_status(lambda s: s["proxy"]["state"] == "serving" and s["health"] == "ready", "a serving Envoy")
    with prober(url) as probe:
        pass
    probe.assert_nothing_lost()
    after = shoal.pids()
    assert {name: pid for name, pid in after.items() if name != "envoy"} == {
        name: pid for name, pid in pids.items() if name != "envoy"
    }
