"""One daemon a state folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shoal.errors import ConflictError, StoreError
from shoal.store.lock import StateLock


def test_a_second_holder_is_refused_and_told_the_pid_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "daemon.lock"
    with (
        StateLock(path),
        pytest.raises(ConflictError, match=rf"another process \(pid {os.getpid()}\) holds {tmp_path}"),
    ):
        StateLock(path).__enter__()


def test_after_the_first_the_next_may_have_it_and_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "daemon.lock"
    for _ in range(3):
        with StateLock(path):
            assert path.read_text() == f"{os.getpid()}\n"
            assert path.stat().st_mode & 0o777 == 0o600
        assert path.exists()


def test_an_error_inside_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "daemon.lock"
    with pytest.raises(ZeroDivisionError), StateLock(path):
        _ = 1 / 0
    with StateLock(path):
        pass


def test_a_longer_pid_of_an_earlier_holder_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "daemon.lock"
    path.write_text("123456789012345\n")
    with StateLock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_folder_that_is_not_there_and_a_link_are_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"), StateLock(tmp_path / "no" / "daemon.lock"):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot open the lock"), StateLock(tmp_path / "link"):
        pass
    assert not (tmp_path / "elsewhere").exists()
