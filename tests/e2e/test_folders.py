"""Folders that break careless programs: long ones, ones with spaces; and an `/etc/hosts` that is a link."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.plane import ECHO, plane
from tests.support.port import free_port

pytestmark = pytest.mark.integration


def app_file(web: int, peer: int) -> str:
    return f"""
services:
  peer: {{run: "echo:app", port: {peer}}}
  web: {{run: "echo:app", port: {web}, calls: [peer]}}
  tool: {{command: '"{sys.executable}" -m http.server -b 127.0.0.1 $PORT', port: {free_port()}}}
"""


def answer(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as response:
        body: bytes = response.read()
    return body


@pytest.mark.parametrize("name", ["with  spaces and 'quotes' $HOME %20 é", "x" * 60 + "/" + "y" * 80 + "/" + "z" * 60])
def test_an_app_runs_in_a_folder_with_a_hard_name(tmp_path: Path, name: str) -> None:
    web, peer = free_port(), free_port()
    files = {"shoal.yaml": app_file(web, peer), "echo.py": ECHO}
    with plane(tmp_path / name, files=files) as shoal:
        assert len(str(shoal.folder)) > 200 or " " in str(shoal.folder)
        shoal.up()
        assert json.loads(answer(f"http://127.0.0.1:{web}/"))["service"] == "web"
        done = shoal.shoal("exec", "web", "--", "sh", "-c", 'curl -sS --noproxy "*" "$PEER_URL/"')
        assert json.loads(done.stdout)["service"] == "peer"


@pytest.mark.parametrize("kind", ["a link", "a dangling link"])
def test_an_etc_hosts_that_is_a_link_works_or_says_why(tmp_path: Path, kind: str) -> None:
    """In a mount namespace of its own, where /etc is a copy whose `hosts` is a link."""
    if os.getuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("cannot make a mount namespace here")
    etc = tmp_path / "etc"
    subprocess.run(["cp", "-a", "/etc", str(etc)], check=True)
    (etc / "hosts").unlink()
    target = tmp_path / "elsewhere" / "hosts"
    if kind == "a link":
        target.parent.mkdir()
        target.write_bytes(Path("/etc/hosts").read_bytes())
    (etc / "hosts").symlink_to(target)
    inside = ["unshare", "-m", "--propagation", "private", "sh", "-c", f'mount --bind "{etc}" /etc && exec "$@"', "sh"]
    web, peer = free_port(), free_port()
    files = {"shoal.yaml": app_file(web, peer), "echo.py": ECHO}
    with plane(tmp_path / "app", files=files, command=[*inside, sys.executable, "-m", "shoal"]) as shoal:
        shoal.up()
        status = shoal.status()
        assert json.loads(answer(f"http://127.0.0.1:{web}/"))["service"] == "web"
        if status["names"] == "names":
            url = f"http://peer:{peer}/"
        else:
            assert "/etc/hosts" in status["names_reason"]
            url = "$PEER_URL/"
        done = shoal.shoal("exec", "web", "--", "sh", "-c", f'curl -sS --noproxy "*" "{url}"')
        assert json.loads(done.stdout)["service"] == "peer"
        assert kind == "a dangling link" or status["names"] == "names"
