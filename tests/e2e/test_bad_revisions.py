"""A new revision that answers, and answers badly: the deploy fails, goes back by itself, and says why."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from shoal.xds.admin import admin_get
from tests.support.plane import Plane, plane
from tests.support.port import free_port
from tests.support.prober import Kind, prober

pytestmark = pytest.mark.integration

MOODY = """
import asyncio
import os

MOOD = os.environ["MOOD"]


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await asyncio.sleep(0.2 if MOOD == "slow" else 0.001)
    # Not to Shoal's own question whether it is up.
    status = 500 if MOOD == "bad" and scope["path"] == "/work" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def test_what_answers_500_or_is_far_slower_is_taken_back_and_envoy_is_as_before(tmp_path: Path) -> None:
    port = free_port()

    def write(mood: str) -> None:
        text = f"services:\n  web: {{run: 'moody:app', port: {port}, replicas: 2, env: {{MOOD: {mood}}}}}\n"
        (shoal.folder / "shoal.yaml").write_text(text)

    with plane(tmp_path / "app", files={"moody.py": MOODY, "shoal.yaml": ""}) as shoal:
        write("good")
        shoal.up()
        before = configuration(shoal)
        assert before["web"]
        with prober(f"http://127.0.0.1:{port}", get="/work", kinds=[Kind.GET]) as probe:
            for mood, revision, why in (
                ("bad", 2, "revision 2 failed 100 % of"),
                ("slow", 3, "revision 3 answers within"),
            ):
                write(mood)
                ended = shoal.shoal("deploy", check=False)
                assert ended.returncode == 5, ended.stdout + ended.stderr
                assert why in ended.stdout + ended.stderr
                status = shoal.status()["services"][0]
                assert (status["revision"], status["rollout"]["state"]) == (1, "rolled-back")
                assert status["rollout"]["reason"].startswith(why)
                shoal.eventually(lambda: configuration(shoal) == before, "Envoy's configuration is as before")
                assert [e["subject"] for e in shoal.events() if e["kind"] == "RolledBack"] == ["web"] * (revision - 1)
            probe.wait_for_answers(50)


def configuration(shoal: Plane) -> dict[str, Any]:
    """What Envoy holds, without its notes of when; and its endpoints, by cluster."""
    socket = shoal.run / "envoy-admin.sock"
    dump = json.loads(asyncio.run(admin_get("/config_dump?include_eds", socket)))
    held = {section["@type"]: without_times(section) for section in dump["configs"]}
    return {"web": "web" in json.dumps(held), **held}


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in ("last_updated", "version_info")}
    if isinstance(value, list):
        return sorted(map(without_times, value), key=lambda one: json.dumps(one, sort_keys=True))
    return value
