"""The keeper's parts that need no process: when the daemon starts again, what is written down, and the environment."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from shoal.engines.local.keeper import registry
from shoal.engines.local.keeper.daemon import BACKOFF_S_MAX, BACKOFF_S_MIN, FORGIVEN, HEALTHY_S, LASTED_S, DaemonPolicy
from shoal.engines.local.keeper.registry import Record, Registry, valid_name
from shoal.engines.local.keeper.start import daemon_environment


def test_a_crashing_daemon_comes_back_slower_and_slower_to_thirty_seconds() -> None:
    policy = DaemonPolicy(wanted=True)
    assert policy.due == 0.0
    now, waits = 0.0, []
    for _ in range(12):
        policy.started(now)
        assert policy.due is None
        waits.append(policy.ended(now))
        assert policy.due == now + waits[-1]
        now += waits[-1]
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == BACKOFF_S_MAX


@pytest.mark.parametrize(("up_s", "wait_s"), [(0.4, 0.8), (LASTED_S, BACKOFF_S_MIN)])
def test_a_daemon_that_lasts_longer_than_its_back_off_comes_back_at_once(up_s: float, wait_s: float) -> None:
    policy = DaemonPolicy(wanted=True)
    for _ in range(3):
        policy.started(0.0)
        policy.ended(0.0)
    policy.started(100.0)
    assert policy.ended(100.0 + up_s) == pytest.approx(wait_s)


def test_a_daemon_that_ends_every_few_seconds_is_backed_off_in_the_end() -> None:
    policy = DaemonPolicy(wanted=True)
    waits = []
    for turn in range(40):
        policy.started(turn * 100.0)
        waits.append(policy.ended(turn * 100.0 + 59.0))
    assert waits[:FORGIVEN] == [BACKOFF_S_MIN] * FORGIVEN
    assert waits[-1] == BACKOFF_S_MAX
    policy.started(10_000.0)
    assert policy.ended(10_000.0 + HEALTHY_S) == BACKOFF_S_MIN


def test_a_daemon_that_cannot_be_started_is_backed_off_too() -> None:
    policy = DaemonPolicy(wanted=True)
    assert [policy.ended(0.0), policy.ended(0.1), policy.ended(0.3)] == [0.1, 0.2, 0.4]


def test_an_unwanted_daemon_stays_away() -> None:
    assert DaemonPolicy(wanted=False).due is None
    policy = DaemonPolicy(wanted=True)
    policy.started(0.0)
    policy.stop()
    assert policy.ended(1.0) == 0.0
    assert policy.due is None


@pytest.mark.parametrize("name", ["envoy", "daemon", "cart-service-r3", "a" * 128, "A.b_c-1"])
def test_names_that_may_be_file_names(name: str) -> None:
    assert valid_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-x", "a/b", "a\0", "a\n", "a" * 129, "ä", "../x"])
def test_names_that_may_not(name: str) -> None:
    assert not valid_name(name)


def record_of(name: str, pid: int) -> Record:
    start = registry.start_ticks(pid) or 0
    return Record(name=name, pid=pid, start=start, boot=registry.boot_id(), log="/l", tag={"a": [1]}, started_at=1.5)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = Registry(str(tmp_path / "processes"))
    record = record_of("web", os.getpid())
    folder.save(record)
    (found,), complaints = folder.load()
    assert complaints == []
    assert all(getattr(found, key) == getattr(record, key) for key in Record.__slots__)
    assert found.is_alive()
    assert json.loads(json.dumps(found.public()))["tag"] == {"a": [1]}
    folder.remove("web")
    folder.remove("web")
    assert folder.load() == ([], [])


@pytest.mark.parametrize(("field", "value"), [("start", 1), ("boot", "another"), ("pid", 2**22 + 1)])
def test_a_process_of_another_time_is_not_ours(field: str, value: object) -> None:
    record = record_of("web", os.getpid())
    setattr(record, field, value)
    assert not record.is_alive()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"name": 5}', "null", '"x"'])
def test_a_broken_record_is_a_complaint(tmp_path: Path, content: str) -> None:
    folder = Registry(str(tmp_path))
    (tmp_path / "web.json").write_text(content)
    records, complaints = folder.load()
    assert records == []
    assert len(complaints) == 1
    assert "web.json is no record of a process" in complaints[0]


def test_the_daemon_gets_what_says_where_things_are_and_no_secrets() -> None:
    kept = {"PATH": "p", "HOME": "h", "LC_ALL": "C", "XDG_RUNTIME_DIR": "r", "UV_CACHE_DIR": "u", "https_proxy": "x"}
    left = {"AWS_SECRET_ACCESS_KEY": "s", "DATABASE_URL": "postgres://u:p@h/d", "GITHUB_TOKEN": "t", "OLDPWD": "o"}
    assert daemon_environment(kept | left) == kept
