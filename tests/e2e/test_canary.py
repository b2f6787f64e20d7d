"""Canaries through the command line, with the real Envoy, while requests come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.plane import Plane, plane
from tests.support.port import free_port
from tests.support.prober import Kind, prober

pytestmark = pytest.mark.integration

MOODY = """
import itertools
import os

COUNT = itertools.count()
MOOD = os.environ["MOOD"]


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    # Each second one: what fails five times in a row gets nothing for a while, and its verdict takes a minute. Not to
    # Shoal's own question whether it is up.
    status = 503 if MOOD == "bad" and scope["path"] == "/work" and next(COUNT) % 2 else 200
    headers = [(b"content-length", b"2"), (b"x-mood", MOOD.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
"""
ROLLOUT = "{strategy: canary, steps: [40%, 80%], step_wait: 500ms, min_healthy: 0s}"


def test_a_good_canary_is_promoted_step_by_step_a_bad_one_goes_back_and_a_person_has_the_last_word(
    tmp_path: Path,
) -> None:
    port = free_port()

    def write(mood: str) -> None:
        text = (
            f"services:\n  web: {{run: 'moody:app', port: {port}, replicas: 2, env: {{MOOD: {mood}}},\n"
            f"    rollout: {ROLLOUT}}}\n"
        )
        (shoal.folder / "shoal.yaml").write_text(text)

    with plane(tmp_path / "app", files={"moody.py": MOODY, "shoal.yaml": ""}) as shoal:
        shoal.timeout_s = 240
        write("first")
        shoal.up()
        # Fast enough that each step has its requests within seconds; an answer that a retry replaced is none lost.
        with prober(f"http://127.0.0.1:{port}", get="/work", kinds=[Kind.GET], rate=600) as probe:
            write("good")
            shoal.shoal("deploy", "web", "--canary", "--timeout", "200")
            assert told(shoal, 2)[0].startswith("passes at 40 %: revision 2 failed 0 % of")
            assert [line.split(":")[0] for line in told(shoal, 2)] == ["passes at 40 %", "passes at 80 %"]
            assert revision(shoal) == (2, "completed")

            write("bad")
            failed = shoal.shoal("deploy", "--json", "--timeout", "200", check=False)
            assert failed.returncode == 5, failed.stdout + failed.stderr
            assert "revision 3 failed" in json.loads(failed.stdout)["lines"][0]
            assert revision(shoal) == (2, "rolled-back")
            assert web(shoal)["rollout"]["reason"].startswith("revision 3 failed")

            write("third")
            shoal.shoal("deploy", "--detach")
            shoal.eventually(lambda: web(shoal)["rollout"]["state"] == "canary", "the file alone makes it a canary")
            aborted = json.loads(shoal.shoal("abort", "web", "--json").stdout)
            assert aborted["rollout"]["reason"] == "aborted: shoal abort"
            shoal.eventually(lambda: revision(shoal) == (2, "rolled-back"), "all is as before")

            write("fourth")
            stands = shoal.shoal("deploy", "web", "--steps", "50", "--no-auto", "--json", "--timeout", "200")
            [service] = json.loads(stands.stdout)["services"]
            assert service["rollout"]["state"] == "canary"
            assert service["rollout"]["step"].endswith("passes: shoal promote web, or shoal abort web")
            promoted = json.loads(shoal.shoal("promote", "web", "--json").stdout)
            assert promoted["rollout"]["state"] == "rolling"
            shoal.eventually(lambda: revision(shoal) == (5, "completed"), "revision 5 serves")
            nothing = shoal.shoal("promote", "web", check=False)
            assert nothing.returncode == 3 and "no canary under way" in nothing.stderr
        probe.assert_nothing_lost()


def web(shoal: Plane) -> dict[str, Any]:
    [service] = shoal.status()["services"]
    return dict(service)


def revision(shoal: Plane) -> tuple[int, str]:
    return web(shoal)["revision"], web(shoal)["rollout"]["state"]


def told(shoal: Plane, number: int) -> list[str]:
    """What the journal says of good verdicts on this revision."""
    messages = [e["message"] for e in shoal.events() if e["kind"] == "RolloutAdvanced"]
    return [message for message in messages if message.startswith("passes at") and f"revision {number} " in message]
