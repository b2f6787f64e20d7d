"""Bringing a plane up with a real keeper, and a daemon that is no good; seeing it gone."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shoal.client import plane
from shoal.client.headstart import head_start
from shoal.engines.local import gate
from shoal.engines.local.keeper import start
from shoal.errors import EngineError, UsageError
from shoal.paths import StateFolder
from tests.support.processes import until

pytestmark = pytest.mark.integration

ANSWERS = """
import signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
signal.pause()
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StateFolder]:
    runtime = tempfile.mkdtemp(prefix="sh-", dir="/tmp")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    made = StateFolder(tmp_path / ".shoal")
    try:
        yield made
    finally:
        plane.dismiss(made)
        until(lambda: not plane.plane_runs(made), "the keeper's end", within_s=10)
        shutil.rmtree(runtime)


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a script in the place of the daemon."""
    real = start.start_keeper

    def choose(script: str, *arguments: str) -> None:
        argv = [sys.executable, "-u", "-c", script, *arguments]
        monkeypatch.setattr(start, "start_keeper", lambda state, daemon_argv: real(state, argv))

    return choose


def test_a_daemon_that_dies_at_once_is_shown_with_its_last_words_and_no_keeper_stays(
    state: StateFolder, daemon: Callable[..., None]
) -> None:
    daemon("print('state.db is from the future'); raise SystemExit(3)")
    with pytest.raises(EngineError, match="ends as soon as it starts") as caught:
        plane.ensure_plane(state)
    assert "state.db is from the future" in caught.value.detail.splitlines()
    assert str(state.logs / "daemon.log") in caught.value.way_out
    until(lambda: not plane.plane_runs(state), "the keeper's end", within_s=10)


def test_a_daemon_that_never_answers_is_given_up_and_ended(state: StateFolder, daemon: Callable[..., None]) -> None:
    daemon("import signal; print('thinks'); signal.pause()")
    with pytest.raises(EngineError, match=r"did not answer within 0\.5 s"):
        plane.ensure_plane(state, timeout_s=0.5)
    until(lambda: not plane.plane_runs(state), "the keeper's end", within_s=10)


def test_a_plane_is_started_once_and_its_end_is_seen(state: StateFolder, daemon: Callable[..., None]) -> None:
    daemon(ANSWERS, str(state.api_socket))
    assert plane.ensure_plane(state) is True
    assert plane.ensure_plane(state) is False
    assert plane.plane_runs(state)
    with plane.Departure(state) as departure:
        assert not departure.done()
        assert not departure.wait(0.05)
        plane.dismiss(state)
        assert departure.wait(10)
    assert not plane.plane_runs(state)


def test_where_nothing_runs_there_is_nothing_to_wait_for(state: StateFolder) -> None:
    assert not plane.plane_runs(state)
    assert not plane.has_leftovers(state)
    with plane.Departure(state) as departure:
        assert departure.done()


WAITS = """
import sys
from pathlib import Path
from shoal.engines.local import gate
print("at the gate")
gate.wait_until_open(Path(sys.argv[1]))
print("works")
"""


def test_a_file_that_is_wrong_ends_the_plane_that_was_started_ahead_before_it_did_anything(
    state: StateFolder, daemon: Callable[..., None]
) -> None:
    daemon(WAITS, str(state.gate))
    log = state.logs / "daemon.log"
    start.make_folders(state)
    state.database.touch()  # it was up before
    with pytest.raises(UsageError), head_start(state.root.parent):
        until(lambda: log.exists() and "at the gate" in log.read_text(), "the daemon at the gate", within_s=10)
        raise UsageError("the file is wrong")
    assert not plane.plane_runs(state)
    assert "works" not in log.read_text()
    with gate.closed(state.gate):
        pass


def test_an_app_that_was_never_up_has_nothing_started_ahead(state: StateFolder, daemon: Callable[..., None]) -> None:
    daemon(ANSWERS, str(state.api_socket))
    with head_start(state.root.parent):
        pass
    assert not state.root.exists()
