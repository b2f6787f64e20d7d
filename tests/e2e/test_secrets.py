"""A secret's value reaches its service, and nothing else; a new value reaches it without a lost request."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.plane import Plane, plane
from tests.support.port import free_port
from tests.support.prober import prober
from tests.support.processes import mentioning

pytestmark = pytest.mark.integration

# It tells everything to everybody: what Shoal keeps of that must not show it.
WEB = """
import os

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    key = open(os.environ["KEY_FILE"]).read()
    print("token", os.environ["TOKEN"], "url", os.environ["URL"], "key", key, flush=True)
    body = f"{os.environ['TOKEN']} {key}".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
TOKEN, KEY, NEXT = "s3cr3t-of-the-first-day", "-----BEGIN KEY----- 0123456789", "s3cr3t-of-the-second-day"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Plane, str]]:
    port = free_port()
    app = f"""
app: confidential
secrets: {{SEED: {{generate: 32}}}}
services:
  web:
    run: web:app
    port: {port}
    replicas: 3
    secrets: {{TOKEN: {{}}, SEED: {{}}, KEY: {{file: true}}}}
    env: {{URL: "http://user:${{secret.TOKEN}}@example.com/"}}
  dies:
    command: ["{sys.executable}", "-c", "import os, sys; sys.exit('no good: ' + os.environ['TOKEN'])"]
    secrets: [TOKEN]
    restart: never
"""
    files = {"shoal.yaml": app, "web.py": WEB}
    with plane(tmp_path / "app", files=files, environment={"SHOAL_KEY_FILE": str(tmp_path / "key")}) as shoal:
        refused = shoal.shoal("up", "-d", check=False)
        assert refused.returncode == 3
        assert "web uses the secret TOKEN, which is not set: shoal secret set TOKEN" in refused.stderr
        assert "web uses the secret KEY" in refused.stderr
        put(shoal, "TOKEN", TOKEN)
        put(shoal, "KEY", KEY)
        shoal.shoal("up", "-d", check=False)  # one of the services dies
        shoal.wait_for_status(lambda status: status["services"][0]["ready"] == 3, "three replicas")
        yield shoal, f"http://127.0.0.1:{port}"


def put(shoal: Plane, name: str, value: str) -> str:
    line = [*shoal.command, "secret", "set", name, "-"]
    done = subprocess.run(
        line,
        cwd=shoal.folder,
        env=shoal.env(),
        input=value + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def asked(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_a_value_is_in_no_record_of_shoal_and_a_new_one_rolls_its_users(web: tuple[Plane, str]) -> None:
    shoal, url = web
    assert asked(url) == f"{TOKEN} {KEY}"
    assert f"TOKEN={TOKEN}" in shoal.shoal("exec", "web", "--", "env").stdout  # a person's own terminal
    shoal.eventually(lambda: "token [secret]" in shoal.shoal("logs", "web").stdout, "the log")
    assert "no good: [secret]" in shoal.shoal("logs", "dies").stdout

    with prober(url, rate=60.0) as probe:
        said = put(shoal, "TOKEN", NEXT)
        shoal.wait_for_event("RolloutCompleted", "web", after=shoal.events()[0]["sequence"])
        shoal.wait_for_status(
            lambda status: not any(s["rollout"] and s["rollout"]["state"] == "rolling" for s in status["services"]),
            "the end of the rollout",
        )
        shoal.eventually(lambda: asked(url) == f"{NEXT} {KEY}", "the new value")
    probe.assert_nothing_lost()
    assert "web" in said

    values = [TOKEN, KEY, NEXT]
    told = {" ".join(words): shoal.shoal(*words).stdout for words in (
        ["status", "--json"], ["events", "--json", "--after", "0"], ["explain", "web", "--json"], ["explain", "dies"],
        ["revisions", "web", "--json"], ["exec", "web", "--json"], ["secret", "list"], ["secret", "list", "--json"],
    )}  # fmt: skip
    told |= {str(path): path.read_bytes().decode("latin-1") for path in shoal.root.rglob("*") if path.is_file()}
    for pid in mentioning(shoal.root, shoal.run):
        told[f"argv of {pid}"] = Path(f"/proc/{pid}/cmdline").read_text()
    found = [(where, value) for where, text in told.items() for value in values if value in text]
    assert not found
    listed = shoal.shoal("secret", "list").stdout
    assert "SEED" in listed and "web, dies" in listed
