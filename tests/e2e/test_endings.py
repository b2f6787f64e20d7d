"""One-shots and barriers with real processes: what completes opens the way, what fails says why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.plane import plane
from tests.support.processes import until

pytestmark = pytest.mark.integration

WORKER = "while :; do sleep 0.2; done"


def test_a_service_starts_once_another_has_completed(tmp_path: Path) -> None:
    text = f"""
services:
  init: {{command: 'sleep 0.3; date +%N >> {tmp_path}/.shoal/seeded; echo seeded', restart: never}}
  work: {{command: 'cat {tmp_path}/.shoal/seeded; {WORKER}', after: {{init: completed}}}}
"""
    with plane(tmp_path, files={"shoal.yaml": text}) as shoal:
        shoal.up()
        completed = shoal.wait_for_event("ReplicaExited", "init-r1")
        started = shoal.wait_for_event("ReplicaScheduled", "work-r1")
        assert completed["message"] == "completed: exit code 0"
        assert completed["sequence"] < started["sequence"]
        services = {s["name"]: s for s in shoal.wait_for_status(lambda s: s["health"] == "ready", "ready")["services"]}
        assert (services["init"]["health"], services["init"]["reason"]) == ("completed", "1 of 1 completed")
        shoal.up()  # nothing has changed: nothing runs again
        assert len((tmp_path / ".shoal/seeded").read_text().splitlines()) == 1
        shoal.shoal("restart", "init")
        until(lambda: len((tmp_path / ".shoal/seeded").read_text().splitlines()) == 2, "the second run", within_s=20)


def test_a_one_shot_that_fails_ends_up_with_its_last_lines(tmp_path: Path) -> None:
    text = f"""
services:
  init: {{command: 'echo no such table: users; exit 3', restart: never}}
  work: {{command: '{WORKER}', after: {{init: completed}}}}
"""
    with plane(tmp_path, files={"shoal.yaml": text}) as shoal:
        done = shoal.shoal("up", "-d", check=False)
        assert done.returncode != 0
        assert "init: revision 1 failed: init-r1" in done.stderr
        assert "init-r1 ended: exit code 3\n        | no such table: users" in done.stderr
        assert "no such table: users" in done.stderr
        services = {s["name"]: s for s in shoal.status()["services"]}
        assert services["work"]["reason"] == "after: waits for init to complete, which failed: exit code 3"
        assert services["init"]["replicas"][0]["attempt"] == 1


def test_the_stop_signal_of_the_app_file_is_what_arrives(tmp_path: Path) -> None:
    files = {
        "shoal.yaml": f"""
services:
  work: {{command: ['{sys.executable}', work.py], stop_signal: SIGUSR1, env_file: work.env}}
""",
        "work.py": """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
told = os.environ["SHOAL_DATA_DIR"] + "/told"
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(open(told, "w").write("told\\n") and 0))
while True:
    signal.pause()
""",
        "work.env": "export GREETING='hello'\n",
    }
    with plane(tmp_path, files=files) as shoal:
        shoal.up()
        explained = shoal.shoal("explain", "work").stdout
        assert "SIGUSR1" in explained
        assert "work.env" in explained
        assert shoal.shoal("exec", "work", "--", "sh", "-c", "echo $GREETING").stdout == "hello\n"
        shoal.down()
        assert (tmp_path / ".shoal/data/work/told").read_text() == "told\n"
