"""From FIFO to log: whole lines, and what a keeper killed between any two steps leaves to its successor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.engines.local.keeper import linux, logs, taps
from shoal.engines.local.keeper.logs import LogFile, OwnLog, stamp
from shoal.engines.local.keeper.taps import Desk, Mark, Tap

pytestmark = pytest.mark.skipif(not hasattr(os, "pipe2"), reason="the keeper runs on Linux")

AT = 1_700_000_000.25
HEAD = b"2023-11-14T22:13:20.250000Z "


class Bench:
    """A FIFO with its writer, and one keeper's desk and tap after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fifo = str(folder / "web.fifo")
        self.path = folder / "web.log"
        os.mkfifo(self.fifo)
        self.writer = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)
        self.said: list[str] = []
        self.desk: Desk
        self.tap: Tap

    @contextmanager
    def keeper(self) -> Iterator[Tap]:
        """One keeper's life; it adopts what it finds."""
        self.desk = Desk(Mark(str(self.folder / ".mark")), self.said.append)
        self.tap = Tap("web", self.fifo, LogFile(str(self.path)), self.desk)
        try:
            self.tap.recover()
            self.desk.mark.clear()
            yield self.tap
        finally:
            self.tap.close()
            self.desk.close()

    def write(self, data: bytes) -> None:
        assert os.write(self.writer, data) == len(data)

    def texts(self) -> list[bytes]:
        lines = self.path.read_bytes().split(b"\n")
        assert lines.pop() == b""
        assert all(line[26:28] == b"Z " for line in lines)
        return [line[28:] for line in lines]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    os.close(bench.writer)


def test_a_stamp_is_utc_with_microseconds() -> None:
    assert stamp(AT) == HEAD
    assert stamp(0.0) == b"1970-01-01T00:00:00.000000Z "
    assert stamp(1_700_000_000.9999999) == b"2023-11-14T22:13:21.000000Z "


@pytest.mark.parametrize("tee", [True, False])
def test_whole_lines_move_and_an_unfinished_one_waits(bench: Bench, tee: bool) -> None:
    with bench.keeper() as tap:
        bench.desk.can_tee = tee
        bench.write(b"one\ntwo\nthr")
        assert tap.pump(0.0, AT) == 8
        assert bench.path.read_bytes() == HEAD + b"one\n" + HEAD + b"two\n"
        assert tap.due is not None
        assert tap.pump(0.5, AT) == 0
        bench.write(b"ee\nfo")
        assert tap.pump(0.9, AT) == 6
        assert tap.pump(1.8, AT) == 0  # another line: its second begins anew
        assert tap.pump(1.95, AT) == 2
        assert bench.texts() == [b"one", b"two", b"three", b"fo"]
        assert tap.pump(2.0, AT) == 0
        assert tap.due is None


def test_a_line_that_fills_the_fifo_is_written_in_parts(bench: Bench) -> None:
    with bench.keeper() as tap:
        for _ in range(3):
            bench.write(b"x" * 65536)
            assert tap.pump(0.0, AT) == 65536
        bench.write(b"end\n")
        tap.pump(0.0, AT)
        assert bench.texts() == [b"x" * 65536] * 3 + [b"end"]


def test_a_fifo_of_many_small_pages_counts_as_full_too(bench: Bench) -> None:
    with bench.keeper() as tap:
        with pytest.raises(BlockingIOError):
            while True:
                bench.write(b"y" * 2049)  # two do not fit into one page
        waiting = tap.size()
        assert waiting < 65536
        assert tap.pump(0.0, AT) == waiting


@pytest.mark.parametrize("junk", [b"\xff\xfe\n", b"a\rb\r\n", b"\0\0\n", b"\n\n\n", b"\x1b[31mred\n"])
def test_bytes_stay_as_they_are(bench: Bench, junk: bytes) -> None:
    with bench.keeper() as tap:
        bench.write(junk)
        tap.pump(0.0, AT)
        assert bench.path.read_bytes() == b"".join(HEAD + line + b"\n" for line in junk.split(b"\n")[:-1])


def test_what_is_there_at_an_exit_is_moved_and_no_more(bench: Bench) -> None:
    with bench.keeper() as tap:
        bench.write(b"last words")
        tap.drain(0.0, AT)
        assert bench.texts() == [b"last words"]
        tap.drain(0.0, AT)  # nothing there, nobody waits


def test_the_end_of_all_writers_is_seen(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with bench.keeper() as tap:
        bench.write(b"bye\nnow")
        os.close(bench.writer)
        tap.pump(0.0, AT)
        assert not tap.ended
        tap.pump(1.5, AT)
        tap.pump(1.6, AT)
        assert tap.ended
        assert bench.texts() == [b"bye", b"now"]


def test_a_full_disk_drops_lines_and_says_how_many(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: LogFile, block: bytes) -> None:
        raise OSError(28, "No space left on device")

    with bench.keeper() as tap:
        bench.write(b"kept\n")
        tap.pump(0.0, AT)
        with monkeypatch.context() as patch:
            patch.setattr(LogFile, "append", full)
            bench.write(b"lost\nlost\n")
            assert tap.pump(0.0, AT) == 10
            bench.write(b"lost\n")
            assert tap.pump(0.0, AT) == 5
        bench.write(b"kept\n")
        tap.pump(0.0, AT)
        note = b"shoal: 3 lines are missing here: No space left on device"
        assert bench.texts() == [b"kept", note, b"kept"]
        assert len(bench.said) == 2  # once when it began, once when it ended
        assert "No space left" in bench.said[0]
        assert "3 log lines" in bench.said[1]


def test_a_log_is_rotated_by_size_and_keeps_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SIZE_MAX", 1000)
    with bench.keeper() as tap:
        for number in range(100):
            bench.write(b"%03d\n" % number)
            tap.pump(0.0, AT)
    old = Path(f"{bench.path}.1").read_bytes()
    new = bench.path.read_bytes()
    assert 900 < len(old) <= 1000
    assert 0 < len(new) <= 1000
    found = [int(line[28:]) for line in (old + new).splitlines()]
    assert found == list(range(found[0], 100))
    assert sorted(path.name for path in bench.folder.iterdir()) == [".mark", "web.fifo", "web.log", "web.log.1"]


def test_a_log_that_somebody_removed_is_made_anew(bench: Bench) -> None:
    with bench.keeper() as tap:
        bench.write(b"one\n")
        tap.pump(0.0, AT)
        bench.path.unlink()
        bench.write(b"two\n")
        tap.pump(0.0, AT)
        assert bench.texts() == [b"two"]


def test_a_link_is_no_log(bench: Bench) -> None:
    (bench.folder / "target").write_text("")
    bench.path.symlink_to(bench.folder / "target")
    with bench.keeper() as tap:
        bench.write(b"one\n")
        tap.pump(0.0, AT)
        assert (bench.folder / "target").read_text() == ""
        assert "dropping log lines of web" in bench.said[0]


class Killed(BaseException):
    """SIGKILL arrives here."""


STEPS = ("Mark.set before", "Mark.set after", "append half", "append after", "_take after", "Mark.clear after")


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_no_line_is_lost_torn_or_written_twice(
    bench: Bench, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_set, real_append, real_take, real_clear = Mark.set, LogFile.append, Tap._take, Mark.clear

    def dying_set(self: Mark, *args: object) -> None:
        if step == "Mark.set before":
            raise Killed
        real_set(self, *args)  # type: ignore[arg-type]
        if step == "Mark.set after":
            raise Killed

    def dying_append(self: LogFile, block: bytes) -> None:
        if step == "append half":
            os.write(self._fd, block[: len(block) // 2])
            raise Killed
        real_append(self, block)
        if step == "append after":
            raise Killed

    def dying_take(self: Tap, size: int) -> None:
        real_take(self, size)
        if step == "_take after":
            raise Killed

    def dying_clear(self: Mark) -> None:
        real_clear(self)
        if step == "Mark.clear after":
            raise Killed

    lines = [b"line %d" % number for number in range(50)]
    with bench.keeper() as tap:
        bench.write(b"\n".join(lines[:20]) + b"\n")
        tap.pump(0.0, AT)
        bench.write(b"\n".join(lines[20:40]) + b"\nlin")
        with monkeypatch.context() as patch:
            patch.setattr(Mark, "set", dying_set)
            patch.setattr(LogFile, "append", dying_append)
            patch.setattr(Tap, "_take", dying_take)
            patch.setattr(Mark, "clear", dying_clear)
            with pytest.raises(Killed):
                tap.pump(0.1, AT)
    bench.write(b"e 40\n" + b"\n".join(lines[41:]) + b"\n")
    with bench.keeper() as tap:
        tap.pump(0.2, AT)
        assert bench.texts() == lines


def test_a_mark_of_another_time_changes_nothing(bench: Bench) -> None:
    (bench.folder / ".mark").write_text("web 12345 0 100 10 999")
    bench.path.write_bytes(HEAD + b"old\n")
    bench.write(b"new\n")
    with bench.keeper() as tap:
        tap.pump(0.0, AT)
        assert bench.texts() == [b"old", b"new"]
    (bench.folder / ".mark").write_bytes(b"\xff\xff junk")
    with bench.keeper() as tap:
        bench.write(b"newer\n")
        tap.pump(0.0, AT)
        assert bench.texts() == [b"old", b"new", b"newer"]


@given(pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=30), tee=st.booleans(), restarts=st.booleans())
def test_every_byte_arrives_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], tee: bool, restarts: bool
) -> None:
    """However the writer cuts its bytes, and however many keepers follow one another."""
    bench = Bench(tmp_path_factory.mktemp("taps"))
    try:
        whole = b"".join(pieces) + b"\n"
        remaining = [*pieces, b"\n"]
        while remaining:
            with bench.keeper() as tap:
                bench.desk.can_tee = tee or restarts
                while remaining:
                    bench.write(remaining.pop(0))
                    tap.pump(0.0, AT)
                    if restarts:
                        break
        assert bench.texts() == whole.removesuffix(b"\n").split(b"\n")
    finally:
        os.close(bench.writer)


def test_the_keepers_own_log_never_raises(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    OwnLog(str(blocked / "keeper.log")).say("nobody hears this")


def test_without_tee_lines_move_all_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(source: int, target: int, size: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(linux, "tee", missing)
    with bench.keeper() as tap:
        bench.write(b"one\ntwo")
        tap.pump(0.0, AT)
        assert bench.texts() == [b"one"]
        tap.drain(0.0, AT)
        assert bench.texts() == [b"one", b"two"]
        assert len([words for words in bench.said if "no tee(2) here" in words]) == 1
    assert taps.READ_MAX == 65536
