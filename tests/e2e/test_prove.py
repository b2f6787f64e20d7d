"""`shoal prove` on an app with two replicas, and with one that cannot be proven."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.plane import ECHO, plane
from tests.support.port import free_port

pytestmark = pytest.mark.integration


def test_a_proof_is_an_honest_account_and_never_an_accident(tmp_path: Path) -> None:
    port = free_port()
    app = f"""
services:
  web: {{run: "echo:app", port: {port}, replicas: 2}}
  alone: {{run: "echo:app", port: {free_port()}}}
"""
    with plane(tmp_path / "app", files={"shoal.yaml": app, "echo.py": ECHO}) as shoal:
        shoal.environment = {"SHOAL_ENVOY_DRAIN_S": "1"}
        shoal.up()
        shoal.timeout_s = 300
        refused = shoal.shoal("prove", check=False)
        assert refused.returncode == 2
        assert "--yes" in refused.stderr

        done = shoal.shoal("prove", "web", "--yes", "--json", "--url", f"http://localhost:{port}/", check=False)
        report = json.loads(done.stdout)
        assert done.returncode == 0, report
        assert report["proven"] and report["lost"] == 0
        kinds = [row["kind"] for row in report["rows"]]
        assert kinds == [
            "kill -9 a replica",
            "freeze a replica, 8 s",
            "slow a replica down",
            "replace each replica",
            "kill -9 the daemon",
            "kill -9 the keeper",
            "replace Envoy",
        ]
        assert all(row["requests"] > 0 for row in report["rows"])
        assert {row["service"] for row in report["rows"]} == {"web", None}
        shoal.note_shared_memory()
