"""`shoal up` holds the daemon at its door while it reads the app file."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from shoal.engines.local import gate


def test_a_daemon_waits_until_every_command_line_has_read_its_file(tmp_path: Path) -> None:
    passed = threading.Event()

    def daemon() -> None:
        gate.wait_until_open(tmp_path / "gate")
        passed.set()

    with gate.closed(tmp_path / "gate"):
        with gate.closed(tmp_path / "gate"):
            waiting = threading.Thread(target=daemon)
            waiting.start()
        assert not passed.is_set()
    waiting.join()
    assert passed.is_set()


def test_without_anybody_at_the_gate_a_daemon_passes(tmp_path: Path) -> None:
    gate.wait_until_open(tmp_path / "gate")
    with gate.closed(tmp_path / "gate"):
        pass
    gate.wait_until_open(tmp_path / "gate")


def test_a_stopped_command_line_does_not_keep_a_daemon_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "WAIT_S_MAX", 0.0)
    with gate.closed(tmp_path / "gate"):
        gate.wait_until_open(tmp_path / "gate")
