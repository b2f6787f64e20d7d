"""Rolling out, scaling and going back, under load: nobody who asks notices; what is no good is taken back by itself."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_revisions import curl
from tests.support.plane import Plane, plane
from tests.support.port import free_port
from tests.support.prober import prober
from tests.support.processes import alive, mentioning, until
from tests.support.talk import WebSocket

pytestmark = pytest.mark.integration

SPEAKS = Path(__file__).parents[1] / "support/speaks.py"

WEB = """
from lib import WORD


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    body = WORD.encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


@dataclass
class Running:
    shoal: Plane
    web: int
    """Port of three replicas in Python."""
    one: int
    """Port of a single one."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web}"

    def write(self, *, surge: int = 1, deadline: str = "120s", colour: str = "red") -> None:
        text = f"""
services:
  web:
    run: "app.web:app"
    cwd: web/src
    port: {self.web}
    replicas: 3
    rollout: {{surge: {surge}, min_healthy: 0s, deadline: {deadline}}}
  one:
    command: ["{sys.executable}", speaks.py, http]
    cwd: one
    port: {self.one}
    env: {{COLOUR: {colour}}}
"""
        (self.shoal.folder / "shoal.yaml").write_text(text)

    def code(self, text: str) -> None:
        """A library beside the service's module, as a project with a src layout has it."""
        (self.shoal.folder / "web/src/lib.py").write_text(text)

    def service(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(s for s in self.shoal.status()["services"] if s["name"] == name)
        return found


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    files = {"web/src/app/__init__.py": "", "web/src/app/web.py": WEB, "one/speaks.py": SPEAKS.read_text()}
    with plane(tmp_path / "app", files=files) as shoal:
        made = Running(shoal, free_port(), free_port())
        made.write()
        made.code("WORD = 'word 0'\n")
        shoal.up()
        yield made


def test_twenty_rolling_updates_a_rollback_and_scaling_lose_nothing(running: Running) -> None:
    shoal = running.shoal
    envoy = shoal.pids()["envoy"]
    with prober(running.url) as probe:
        for number in range(1, 21):
            # All at once, and one after the other.
            running.write(surge=3 if number % 4 else 1)
            running.code(f"WORD = 'word {number}'\n")
            shoal.shoal("deploy", "web")
            assert curl(running.url) == f"word {number}"
        assert running.service("web")["revision"] == 21

        shoal.shoal("rollback", "web")
        shoal.wait_for_status(lambda s: rolled(s, "web") == ("completed", 20), "revision 20 again")
        assert curl(running.url) == "word 19"
        assert "word 20" in (shoal.folder / "web/src/lib.py").read_text()

        for count in (1, 5):
            shoal.shoal("scale", "web", str(count))
            shoal.wait_for_status(
                lambda s, count=count: (  # type: ignore[misc]
                    len(s["services"][0]["replicas"]) == s["services"][0]["ready"] == count
                ),
                f"{count} ready replicas and no other",
            )
    probe.assert_nothing_lost()
    assert curl(running.url) == "word 19"
    assert running.service("one")["revision"] == 1 and shoal.pids()["envoy"] == envoy


def test_what_crashes_or_never_gets_ready_is_taken_back_and_loses_nothing(running: Running) -> None:
    shoal = running.shoal
    with prober(running.url) as probe:
        running.code("raise RuntimeError('not today')\n")
        crashed = shoal.shoal("deploy", check=False)
        assert crashed.returncode == 5
        said = crashed.stdout + crashed.stderr
        assert "web was rolled back" in said and "revision 2 failed" in said and "not today" in said
        assert "crashed: could not import app.web:app" in said and "3 times in a row" in said

        running.write(deadline="3s")
        running.code("import time\ntime.sleep(3600)\n")
        late = shoal.shoal("deploy", "--json", check=False)
        assert late.returncode == 5
        assert "revision 3 failed: 0 of 3 ready, and no more within 3.0 s" in late.stdout + late.stderr

        listed = json.loads(shoal.shoal("revisions", "web", "--json").stdout)["revisions"]
        assert [(r["number"], r["state"], r["wanted"]) for r in listed] == [
            (1, "completed", True),
            (2, "failed", False),
            (3, "failed", False),
        ]
        assert "crashed" in listed[1]["reason"] and any("not today" in line for line in listed[1]["tail"])
        assert "no more within 3.0 s" in listed[2]["reason"]

        running.write()
        running.code("WORD = 'mended'\n")
        (shoal.folder / "web/src/more.py").write_text("")
        told = shoal.shoal("diff", "web", "1", "3").stdout.splitlines()
        assert told[1:] == ["  rollout.deadline: 120s -> 3s", "  ~ lib.py"]
        found = json.loads(shoal.shoal("diff", "web", "--json").stdout)
        assert (found["before"], found["after"], found["added"], found["changed"]) == (1, None, ["more.py"], ["lib.py"])
        done = json.loads(shoal.shoal("deploy", "--json").stdout)
        web = next(s for s in done["services"] if s["name"] == "web")
        assert (web["revision"], web["rollout"]["state"], web["ready"]) == (4, "completed", 3)
    probe.assert_nothing_lost()
    assert curl(running.url) == "mended"


def test_with_one_replica_nothing_is_lost_and_a_websocket_reconnects_once(running: Running) -> None:
    shoal = running.shoal
    with talking(running.one) as connections, prober(f"http://127.0.0.1:{running.one}") as probe:
        running.write(colour="blue")
        shoal.shoal("deploy", "one")
        shoal.wait_for_status(lambda s: [r["id"] for r in s["services"][1]["replicas"]] == ["one-r2"], "no old one")
        shoal.eventually(lambda: len(connections) > 1, "another connection of the WebSocket's client")
    probe.assert_nothing_lost()
    assert connections == ["one-r1", "one-r2"]


def test_killed_all_together_during_a_deploy_the_next_up_ends_in_one_whole_revision(running: Running) -> None:
    """At four moments, with real processes. A hundred moments, and revisions that are no good:
    tests/unit/test_rollouts.py::test_killed_all_together_at_a_hundred_moments_a_deploy_ends_whole_the_old_or_the_new.
    Any step of the daemon: the simulation."""
    shoal = running.shoal
    moments = ("RolloutStarted", "ReplicaScheduled", "DrainStarted", "RolloutCompleted")
    for number, moment in enumerate(moments, start=1):
        running.code(f"WORD = 'word {number}'\n")
        seen = shoal.status()["sequence"]
        shoal.shoal("deploy", "--detach")
        shoal.wait_for_event(moment, after=seen)
        kill_everything(shoal)
        shoal.up()
        shoal.wait_for_status(
            lambda s, wanted=number + 1: (  # type: ignore[misc]
                [(r["revision"], r["state"]) for r in s["services"][0]["replicas"]] == [(wanted, "ready")] * 3
            ),
            f"three ready replicas of one revision after {moment}",
        )
        assert rolled(shoal.status(), "web") == ("completed", number + 1)
        assert {curl(running.url) for _ in range(10)} == {f"word {number}"}


def kill_everything(shoal: Plane) -> None:
    """The keeper, the daemon, Envoy, every replica."""
    shoal.note_shared_memory()
    while left := mentioning(shoal.root, shoal.run):  # the keeper may have started something since
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda left=left: not any(alive(pid) for pid in left), "their end")  # type: ignore[misc]


def rolled(status: dict[str, Any], service: str) -> tuple[str, int]:
    found = next(s for s in status["services"] if s["name"] == service)
    return found["rollout"]["state"], found["rollout"]["revision"]


@contextmanager
def talking(port: int) -> Iterator[list[str]]:
    """Who it was that answered each of a WebSocket client's connections; it opens another when one is cut."""
    answered: list[str] = []
    stop, spoke = threading.Event(), threading.Event()

    def talk() -> None:
        while not stop.is_set():
            try:
                with WebSocket(("127.0.0.1", port)) as link:
                    answered.append(link.say("hello").split(":")[0])
                    for number in itertools.count():
                        spoke.set()
                        if stop.wait(0.02):
                            return
                        link.say(str(number))
            except ConnectionError:
                continue

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        assert spoke.wait(30)
        yield answered
    finally:
        stop.set()
        thread.join(30)
