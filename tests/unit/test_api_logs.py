"""Logs: the newest lines of many files, then what grows, through rotations."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.api import log_files
from shoal.api.log_files import LogFile, Source, by_time, newest, sources
from shoal.engines.local.keeper.logs import stamp
from shoal.errors import UsageError
from shoal.model.status import LogLine
from shoal.testing.virtual_time import run
from tests.support.api import Plane, Reader, asked, problem_of, reading

START = 1_700_000_000.0


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    return Plane(tmp_path)


def log(folder: Path, replica: str, *lines: tuple[float, str], suffix: str = ".log") -> Path:
    """Adds lines to a log: each (seconds after START, text)."""
    path = folder / "cart" / f"{replica}{suffix}"
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        for at, text in lines:
            file.write(stamp(START + at) + text.encode() + b"\n")
    return path


def rotate(path: Path) -> None:
    path.rename(path.with_name(path.name + ".1"))


def texts(body: bytes) -> list[str]:
    return [json.loads(line)["text"] for line in body.splitlines() if line]


def test_lines_of_all_replicas_come_merged_by_time(plane: Plane) -> None:
    log(plane.logs, "cart-r1", (1, "a"), (3, "c"), (3, "c2"))
    log(plane.logs, "cart-r2", (2, "b"), (4, "d ünïcode"))
    answer = asked(plane.app, "GET", "/v1/services/cart/logs")
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert lines[0] == {"replica": "cart-r1", "at": "2023-11-14T22:13:21.000000Z", "text": "a"}
    assert [(line["replica"], line["text"]) for line in lines] == [
        ("cart-r1", "a"),
        ("cart-r2", "b"),
        ("cart-r1", "c"),
        ("cart-r1", "c2"),
        ("cart-r2", "d ünïcode"),
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?tail=2", ["c", "d"]),
        ("?tail=0", []),
        ("?replica=cart-r1", ["a", "c"]),
        ("?replica=r2", ["b", "d"]),
        ("?replica=2&tail=1", ["d"]),
        ("?replica=7", []),
        ("?since=2023-11-14T22:13:23.000000Z", ["c", "d"]),
        ("?since=2023-11-14T22:13:23.000000Z&tail=1", ["d"]),
    ],
)
def test_what_is_asked_for(plane: Plane, query: str, expected: list[str]) -> None:
    log(plane.logs, "cart-r1", (1, "a"), (3, "c"))
    log(plane.logs, "cart-r2", (2, "b"), (4, "d"))
    assert texts(asked(plane.app, "GET", f"/v1/services/cart/logs{query}").body) == expected


@pytest.mark.parametrize("replica", ["../../etc/passwd", "web-r1", "r", "-1", "r1/x", "r\u0661"])
def test_a_replica_that_cannot_be_one_is_a_problem(plane: Plane, replica: str) -> None:
    problem = problem_of(asked(plane.app, "GET", f"/v1/services/cart/logs?replica={replica}"), UsageError)
    assert "is no replica of cart" in problem["detail"]


def test_a_service_that_has_not_written_has_no_lines(plane: Plane) -> None:
    answer = asked(plane.app, "GET", "/v1/services/cart/logs")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("name", ["envoy", "daemon", "keeper"])
def test_shoals_own_parts_have_logs_too(plane: Plane, name: str) -> None:
    assert asked(plane.app, "GET", f"/v1/services/{name}/logs").body == b""
    (plane.logs / f"{name}.log").write_bytes(stamp(START) + b"hello\n")
    (line,) = asked(plane.app, "GET", f"/v1/services/{name}/logs?replica={name}").body.splitlines()
    assert json.loads(line) | {"at": ""} == {"replica": name, "at": "", "text": "hello"}
    problem_of(asked(plane.app, "GET", f"/v1/services/{name}/logs?replica=r1"), UsageError)


def test_the_rotated_file_comes_before(plane: Plane) -> None:
    log(plane.logs, "cart-r1", (1, "a"), (2, "b"), suffix=".log.1")
    log(plane.logs, "cart-r1", (3, "c"))
    assert texts(asked(plane.app, "GET", "/v1/services/cart/logs?tail=2").body) == ["b", "c"]
    assert texts(asked(plane.app, "GET", "/v1/services/cart/logs").body) == ["a", "b", "c"]


def test_lines_without_a_stamp_and_foreign_bytes_are_shown(plane: Plane) -> None:
    path = log(plane.logs, "cart-r1", (1, "a"))
    path.write_bytes(path.read_bytes() + b"no stamp \xff\n" + b"\n" + stamp(START + 2) + b"b\x1b[31m\n" + b"unfinished")
    assert texts(asked(plane.app, "GET", "/v1/services/cart/logs").body) == [
        "a",
        "no stamp \ufffd",
        "",
        "b\x1b[31m",
        "unfinished",
    ]


def test_a_link_is_not_followed(plane: Plane, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    (plane.logs / "cart").mkdir()
    (plane.logs / "cart" / "cart-r1.log").symlink_to(secret)
    assert asked(plane.app, "GET", "/v1/services/cart/logs").body == b""


def test_the_newest_lines_of_big_files_are_found_without_reading_all(plane: Plane) -> None:
    for replica in ("cart-r1", "cart-r2"):
        log(plane.logs, replica, *((n, f"{replica} {n} {'x' * 100}") for n in range(20_000)))
    files = [LogFile(source, whole_lines=False) for source in sources(plane.logs, "cart", None)]
    try:
        lines = newest(files, 500, "")
    finally:
        for file in files:
            file.close()
    assert len(lines) == 500
    assert lines == by_time(lines)
    assert lines[-1].text.split()[1] == "19999"
    assert len(texts(asked(plane.app, "GET", "/v1/services/cart/logs?tail=40000").body)) == 40_000


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.text("ab\u00e9", max_size=30)), max_size=20), min_size=1, max_size=3
    ),
    st.integers(0, 30),
    st.integers(1, 40),
)
@settings(max_examples=100, deadline=None)
def test_reading_backwards_is_reading_forwards_turned_round(
    tmp_path_factory: pytest.TempPathFactory, replicas: list[list[tuple[int, str]]], tail: int, block: int
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    expected: list[LogLine] = []
    for number, lines in enumerate(replicas):
        at = 0
        written: list[tuple[float, str]] = []
        for pause, text in lines:
            at += pause
            written.append((at, text))
            expected.append(LogLine(replica=f"cart-r{number}", at=stamp(START + at).decode().strip(), text=text))
        log(folder, f"cart-r{number}", *written)
    files = [
        LogFile(Source(f"cart-r{n}", folder / "cart" / f"cart-r{n}.log"), whole_lines=False)
        for n in range(len(replicas))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_files, "BLOCK", block)
        found = newest(files, tail, "")
    for file in files:
        file.close()
    assert [line.at for line in found] == [line.at for line in by_time(expected)][-tail:] if tail else found == []
    for number in range(len(replicas)):
        mine = [line for line in expected if line.replica == f"cart-r{number}"]
        got = [line for line in found if line.replica == f"cart-r{number}"]
        assert got == mine[len(mine) - len(got) :]


def test_a_line_without_end_does_not_fill_the_memory(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "LINE_MAX", 1000)
    monkeypatch.setattr(log_files, "BLOCK", 100)
    path = log(plane.logs, "cart-r1", (1, "a"))
    path.write_bytes(path.read_bytes() + b"x" * 10_000)
    found = texts(asked(plane.app, "GET", "/v1/services/cart/logs").body)
    assert found[0] == "a"
    assert sum(len(text) for text in found) == 10_001
    assert max(len(text) for text in found) <= 1100


# Following


async def followed(reader: Reader, *expected: str) -> None:
    """Virtual time: two looks later, all that was written is told."""
    await asyncio.sleep(0.5)
    assert texts(reader.received) == list(expected)


FOLLOW = "/v1/services/cart/logs?follow=1"


def test_new_lines_come_within_the_poll(plane: Plane) -> None:
    async def scenario() -> None:
        log(plane.logs, "cart-r1", (1, "a"))
        async with reading(plane.app, FOLLOW) as reader:
            await followed(reader, "a")
            log(plane.logs, "cart-r1", (2, "b"), (3, "c"))
            await followed(reader, "a", "b", "c")
            assert not reader.ended

    run(scenario())


def test_only_the_new_with_a_tail_of_none(plane: Plane) -> None:
    async def scenario() -> None:
        log(plane.logs, "cart-r1", (1, "a"))
        async with reading(plane.app, FOLLOW + "&tail=0") as reader:
            await asyncio.sleep(1)
            log(plane.logs, "cart-r1", (2, "b"))
            await followed(reader, "b")

    run(scenario())


def test_a_line_is_told_when_it_is_whole(plane: Plane) -> None:
    async def scenario() -> None:
        path = log(plane.logs, "cart-r1", (1, "a"))
        with path.open("ab", buffering=0) as file:
            file.write(stamp(START + 2) + b"half")
            async with reading(plane.app, FOLLOW) as reader:
                await followed(reader, "a")
                await asyncio.sleep(1)
                file.write(b" and half")
                await asyncio.sleep(1)
                file.write(b" of it\n")
                await followed(reader, "a", "half and half of it")

    run(scenario())


def test_a_new_replica_is_followed_from_its_first_line(plane: Plane) -> None:
    async def scenario() -> None:
        async with reading(plane.app, FOLLOW) as reader:
            await asyncio.sleep(1)
            log(plane.logs, "cart-r1", (1, "a"))
            await followed(reader, "a")
            log(plane.logs, "cart-r2", (2, "b"))
            await followed(reader, "a", "b")

    run(scenario())


def test_lines_of_one_look_are_sorted_by_time(plane: Plane) -> None:
    async def scenario() -> None:
        log(plane.logs, "cart-r1", (0, "0"))
        log(plane.logs, "cart-r2", (0, "00"))
        async with reading(plane.app, FOLLOW + "&tail=0") as reader:
            await asyncio.sleep(1)
            log(plane.logs, "cart-r1", (1, "a"), (4, "d"))
            log(plane.logs, "cart-r2", (2, "b"), (3, "c"))
            await followed(reader, "a", "b", "c", "d")

    run(scenario())


def test_a_rotation_loses_no_line(plane: Plane) -> None:
    async def scenario() -> None:
        path = log(plane.logs, "cart-r1", (1, "a"))
        async with reading(plane.app, FOLLOW) as reader:
            await followed(reader, "a")
            log(plane.logs, "cart-r1", (2, "b"))
            rotate(path)
            log(plane.logs, "cart-r1", (3, "c"))
            await followed(reader, "a", "b", "c")
            rotate(path)
            await asyncio.sleep(1)
            log(plane.logs, "cart-r1", (4, "d"))
            await followed(reader, "a", "b", "c", "d")

    run(scenario())


def test_a_rotated_file_of_the_same_moment_is_not_told_again(plane: Plane) -> None:
    async def scenario() -> None:
        path = log(plane.logs, "cart-r1", (1, "a"))
        async with reading(plane.app, FOLLOW) as reader:
            await followed(reader, "a")
            rotate(path)
            log(plane.logs, "cart-r1", (2, "b"))
            os.utime(path, (START, START))
            os.utime(path.with_name(path.name + ".1"), (START, START))
            await followed(reader, "a", "b")
            await asyncio.sleep(1)
            await followed(reader, "a", "b")

    run(scenario())


def test_two_rotations_between_two_looks_lose_no_line(plane: Plane) -> None:
    async def scenario() -> None:
        path = log(plane.logs, "cart-r1", (1, "a"))
        async with reading(plane.app, FOLLOW) as reader:
            await followed(reader, "a")
            log(plane.logs, "cart-r1", (2, "b"))
            rotate(path)
            log(plane.logs, "cart-r1", (3, "c"))
            os.utime(path, (START + 3, START + 3))
            rotate(path)
            os.utime(path.with_name(path.name + ".1"))
            log(plane.logs, "cart-r1", (4, "d"))
            await followed(reader, "a", "b", "c", "d")

    run(scenario())


def test_a_file_that_was_cut_is_read_from_its_start(plane: Plane) -> None:
    async def scenario() -> None:
        path = log(plane.logs, "cart-r1", (1, "a long line"))
        async with reading(plane.app, FOLLOW) as reader:
            await followed(reader, "a long line")
            path.write_bytes(b"")
            await asyncio.sleep(1)
            log(plane.logs, "cart-r1", (2, "b"))
            await followed(reader, "a long line", "b")

    run(scenario())


def test_a_log_that_is_removed_ends_nothing(plane: Plane) -> None:
    async def scenario() -> None:
        path = log(plane.logs, "cart-r1", (1, "a"))
        log(plane.logs, "cart-r2", (1, "a2"))
        async with reading(plane.app, FOLLOW + "&tail=0") as reader:
            await asyncio.sleep(1)
            path.unlink()
            await asyncio.sleep(1)
            log(plane.logs, "cart-r2", (2, "b"))
            await followed(reader, "b")

    run(scenario())


def test_much_at_once_comes_in_order_and_whole(plane: Plane) -> None:
    async def scenario() -> None:
        log(plane.logs, "cart-r1", (0, "0"))
        async with reading(plane.app, FOLLOW + "&tail=0") as reader:
            await asyncio.sleep(1)
            log(plane.logs, "cart-r1", *((n / 1000, f"{n} {'x' * 90}") for n in range(20_000)))
            await reader.until(b"19999 ")
            await asyncio.sleep(1)
            assert [int(text.split()[0]) for text in texts(reader.received)] == list(range(20_000))

    run(scenario())


def test_silence_is_kept_alive_by_empty_lines_and_the_end_closes_the_files(plane: Plane) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def scenario() -> None:
        log(plane.logs, "cart-r1", (1, "a"))
        before = open_files()
        async with reading(plane.app, FOLLOW) as reader:
            await followed(reader, "a")
            assert open_files() == before + 1
            await asyncio.sleep(31)
            assert reader.received.endswith(b"}\n\n\n")
        assert open_files() == before
        async with reading(plane.app, FOLLOW) as reader:
            await followed(reader, "a")
            plane.close()
            await asyncio.sleep(1)
            assert reader.ended
            assert open_files() == before

    run(scenario())
