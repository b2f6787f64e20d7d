"""Code of a revision is what it was when it was deployed; a change of code alone makes a new one."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.plane import Plane, plane
from tests.support.port import free_port

pytestmark = pytest.mark.integration

WEB = """
import sqlite3
from pathlib import Path
from words import WORD

db = sqlite3.connect("app.db", isolation_level=None)
db.execute("create table if not exists seen (n integer)")
MADE = Path("made.txt").read_text()


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    db.execute("insert into seen values (1)")
    text = f"{WORD} {MADE}".strip()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
"""


def app_file(port: int, build: str) -> str:
    return f"""
services:
  web: {{run: "web:app", cwd: web, port: {port}, build: "{build}"}}
  other: {{command: 'while :; do sleep 0.2; done', cwd: other}}
"""


def curl(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        text: str = answer.read().decode()
    return text


def services(shoal: Plane) -> dict[str, Any]:
    return {service["name"]: service for service in shoal.status()["services"]}


def test_code_is_what_was_deployed_and_a_change_of_it_rolls(tmp_path: Path) -> None:
    port = free_port()
    build = "echo made by a step; tr a-z A-Z < source.txt > made.txt"
    files = {
        "shoal.yaml": app_file(port, build),
        "web/web.py": WEB,
        "web/words.py": "WORD = 'one'\n",
        "web/source.txt": "loud",
        "other/.keep": "",
    }
    with plane(tmp_path / "app", files=files) as shoal:
        shoal.up()
        url = f"http://127.0.0.1:{port}/"
        assert curl(url) == "one LOUD"
        assert not (shoal.folder / "web/app.db").exists()
        assert "made by a step" in shoal.shoal("logs", "web", "--build").stdout
        before = services(shoal)

        (shoal.folder / "web/words.py").write_text("WORD = 'two'\n")
        shoal.shoal("restart", "web")
        shoal.wait_for_status(
            lambda status: (
                [r["id"] for r in status["services"][0]["replicas"]] == ["web-r2"]
                and status["services"][0]["health"] == "ready"
            ),
            "a new replica of the same revision",
        )
        assert curl(url) == "one LOUD"

        assert "its source" in shoal.shoal("plan").stdout
        shoal.up()
        after = services(shoal)
        assert curl(url) == "two LOUD"
        assert (before["web"]["revision"], after["web"]["revision"]) == (1, 2)
        assert after["other"]["replicas"] == before["other"]["replicas"] or (
            after["other"]["replicas"][0]["pid"] == before["other"]["replicas"][0]["pid"]
        )
        warned = [event["message"] for event in shoal.events() if event["kind"] == "Warned"]
        assert any("it has written app.db beside its code" in text and "SHOAL_DATA_DIR" in text for text in warned)

        (shoal.folder / "shoal.yaml").write_text(app_file(port, "echo no luck today; exit 3"))
        failed = shoal.shoal("up", "-d", check=False)
        assert failed.returncode == 5
        assert "the build step of web failed: echo no luck today; exit 3: exit code 3" in failed.stderr
        assert "shoal logs web --build" in failed.stderr
        assert curl(url) == "two LOUD"
