"""The wrapper of a migration: two never run at once, whoever is killed; its deadline; what it leaves for others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shoal.engines.local.migrations import locked

pytestmark = pytest.mark.integration


def start(folder: Path, script: str, *, seconds: float = 60.0) -> subprocess.Popen[str]:
    line = [sys.executable, "-I", "-S", locked.__file__, str(seconds), str(folder / "result"), "file"]
    line += [str(folder / "lock"), "", "--", "/bin/sh", "-c", script]
    return subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def eventually(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until, f"{path} does not come"
        time.sleep(0.01)


def test_one_whose_wrapper_was_killed_still_holds_the_lock(tmp_path: Path) -> None:
    script = "echo begin >> log; touch began; while [ ! -e go ]; do sleep 0.05; done; echo end >> log; touch ended"
    first = start(tmp_path, script)
    eventually(tmp_path / "began")
    os.kill(first.pid, signal.SIGKILL)
    first.wait(timeout=30)
    assert first.stdout is not None
    first.stdout.close()  # what the command still holds open
    second = start(tmp_path, "echo second >> log")
    assert second.stdout is not None
    assert "another migration holds" in second.stdout.readline()
    (tmp_path / "go").touch()
    second.communicate(timeout=30)
    assert second.returncode == 0
    assert (tmp_path / "log").read_text().split() == ["begin", "end", "second"]
    assert (tmp_path / "result").read_text() == "0"


def test_its_code_is_left_for_who_did_not_see_it_end(tmp_path: Path) -> None:
    failed = start(tmp_path, "exit 7")
    failed.communicate(timeout=30)
    assert (failed.returncode, (tmp_path / "result").read_text()) == (7, "7")


def test_one_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    slow = start(tmp_path, "sleep 1000 & sleep 1000", seconds=0.3)
    said, _ = slow.communicate(timeout=30)  # its pipe closes when nobody is left
    assert slow.returncode == locked.TIMED_OUT
    assert "did not end within 0.3 s" in said
