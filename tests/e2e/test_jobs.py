"""Jobs with real processes: run on demand, by the clock, and the history of both."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.plane import Plane, plane
from tests.support.processes import until

pytestmark = pytest.mark.integration

APP = """
services:
  work: {command: 'while :; do sleep 0.2; done'}
jobs:
  good: {command: 'echo saved 3 rows to $WHERE; touch $SHOAL_DATA_DIR/saved', env: {WHERE: disk}}
  bad: {command: 'echo no space left; exit 3'}
  slow: {command: 'echo begins; sleep 30', timeout: 5s}
  minutely: {command: 'echo tick', schedule: '* * * * *'}
"""


def history(shoal: Plane, job: str) -> Any:
    return json.loads(shoal.shoal("jobs", job, "--json").stdout)["history"]


def test_a_job_is_run_by_hand_and_remembered(tmp_path: Path) -> None:
    with plane(tmp_path, files={"shoal.yaml": APP}) as shoal:
        shoal.up()
        done = shoal.shoal("run", "good")
        assert done.stdout == "saved 3 rows to disk\n"
        assert "good-r1 completed after" in done.stderr
        failed = shoal.shoal("run", "bad", check=False)
        assert (failed.returncode, failed.stdout) == (1, "no space left\n")
        assert "bad-r1 failed after" in failed.stderr and "exit code 3" in failed.stderr
        (run,) = history(shoal, "bad")
        assert (run["state"], run["code"], run["tail"]) == ("failed", 3, ["no space left"])
        assert run["started_at"] < run["ended_at"] < time.time()
        assert "job bad failed: exit code 3; shoal jobs bad" in shoal.shoal("status").stdout
        assert shoal.wait_for_event("ReplicaExited", "bad-r1")["message"] == "failed: exit code 3"
        assert "no space left" in shoal.shoal("logs", "bad").stdout
        assert "no space left" in shoal.shoal("jobs", "bad").stdout
        assert "restart: never" not in shoal.shoal("explain", "bad").stdout.splitlines()[0]

        shoal.shoal("run", "slow", "--detach")
        assert "slow runs already" in shoal.shoal("run", "slow", check=False).stderr
        until(lambda: history(shoal, "slow")[0]["state"] == "failed", "the timeout", within_s=20)
        assert history(shoal, "slow")[0]["reason"] == "took longer than its timeout of 5.0 s"

        shoal.down()
        shoal.up()
        assert [run["id"] for run in history(shoal, "good")] == ["good-r1"]
        assert shoal.shoal("run", "good", "--json").stdout.count('"good-r2"') == 1
        assert "there are: good, bad, slow, minutely" in shoal.shoal("run", "other", check=False).stderr


def test_a_job_runs_by_the_clock(tmp_path: Path) -> None:
    with plane(tmp_path, files={"shoal.yaml": APP}, quiet=True) as shoal:
        shoal.up()
        run = until(lambda: next(iter(history(shoal, "minutely")), None), "the next minute", within_s=75)
        assert run["started_at"] % 60 < 10
        assert run["cause"] == "due by its schedule * * * * *"
        until(lambda: history(shoal, "minutely")[0]["state"] == "completed", "its end", within_s=20)
