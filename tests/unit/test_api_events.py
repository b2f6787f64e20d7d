"""The event stream on virtual time: no gap, no duplicate, an end to every reader."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.api.events import PAGE
from shoal.errors import StoreError
from shoal.testing.memory_store import MemoryStore
from shoal.testing.virtual_time import run
from tests.support.api import Plane, Reader, reading

SSE = {"accept": "text/event-stream"}


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    return Plane(tmp_path)


def told(reader: Reader) -> list[int]:
    """The sequences of the events received, whose ids and data agree."""
    found = []
    for event in reader.received.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in event.splitlines() if not line.startswith(":"))
        if "id" in lines:
            assert json.loads(lines["data"])["sequence"] == int(lines["id"])
            found.append(int(lines["id"]))
    return found


def listeners(plane: Plane) -> int:
    return len(plane.feed._listeners)


def test_the_past_and_then_the_present_are_told(plane: Plane) -> None:
    async def scenario() -> None:
        plane.happen()
        plane.happen()
        async with reading(plane.app, "/v1/events", SSE) as reader:
            await reader.until(b"id: 2\n")
            assert (reader.status, reader.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            plane.happen()
            await reader.until(b"id: 3\n")
            plane.happen()
            await reader.until(b"id: 4\n")
            assert told(reader) == [1, 2, 3, 4]
            assert not reader.ended

    run(scenario())


@pytest.mark.parametrize(
    ("target", "headers", "expected"),
    [
        ("/v1/events?after=3", {}, [4, 5, 6]),
        ("/v1/events?after=-2", {}, [4, 5, 6]),
        ("/v1/events?after=-99", {}, [1, 2, 3, 4, 5, 6]),
        ("/v1/events?after=5", {}, [6]),
        ("/v1/events?after=99", {}, [6]),
        ("/v1/events", {"last-event-id": "4"}, [5, 6]),
        ("/v1/events?after=1", {"last-event-id": "4"}, [5, 6]),
        ("/v1/events?subject=cart", {}, [2, 5, 6]),
        ("/v1/events?subject=cart&after=-2", {}, [2, 5, 6]),
        ("/v1/events?subject=cart&after=-1", {}, [5, 6]),
        ("/v1/events?subject=cart-r1", {}, [2, 6]),
    ],
)
def test_where_the_stream_begins(plane: Plane, target: str, headers: dict[str, str], expected: list[int]) -> None:
    async def scenario() -> None:
        for subject in ["app", "cart-r1", "app", "cart-service-r1", "cart"]:
            plane.happen(subject)
        async with reading(plane.app, target, SSE | headers) as reader:
            await asyncio.sleep(1)
            plane.happen("cart-r1")
            await reader.until(b"id: 6\n")
            assert told(reader) == expected

    run(scenario())


def test_a_stream_that_does_not_follow_ends_with_the_past(plane: Plane) -> None:
    async def scenario() -> None:
        for _ in range(PAGE * 2 + 3):
            plane.happen()
        async with reading(plane.app, "/v1/events?follow=0", SSE) as reader:
            await asyncio.sleep(1)
            assert reader.ended
            assert told(reader) == list(range(1, PAGE * 2 + 4))

    run(scenario())


def test_silence_is_kept_alive_by_comments(plane: Plane) -> None:
    async def scenario() -> None:
        async with reading(plane.app, "/v1/events", SSE) as reader:
            await asyncio.sleep(14)
            assert b":keepalive" not in reader.received
            await asyncio.sleep(17)
            assert reader.received.count(b":keepalive\n\n") == 2
            plane.happen()
            await reader.until(b"id: 1\n")

    run(scenario())


def test_what_happens_while_the_past_is_read_is_told_once(plane: Plane) -> None:
    async def scenario() -> None:
        for _ in range(PAGE + 5):
            plane.happen()
        async with reading(plane.app, "/v1/events", SSE) as reader:
            reader.reads.clear()
            await asyncio.sleep(1)  # the reader holds back the first page
            for _ in range(10):
                plane.happen()
            reader.reads.set()
            plane.happen()
            await reader.until(f"id: {PAGE + 16}\n".encode())
            assert told(reader) == list(range(1, PAGE + 17))

    run(scenario())


def test_a_reader_too_slow_for_the_feed_gets_what_it_missed_from_the_store(plane: Plane) -> None:
    async def scenario() -> None:
        async with reading(plane.app, "/v1/events", SSE) as reader:
            plane.happen()
            await reader.until(b"id: 1\n")
            reader.reads.clear()
            for _ in range(100):  # the feed keeps 20
                plane.happen()
                await asyncio.sleep(0)
            reader.reads.set()
            await reader.until(b"id: 101\n")
            plane.happen()
            await reader.until(b"id: 102\n")
            assert told(reader) == list(range(1, 103))

    run(scenario())


def test_an_entry_that_never_passed_the_feed_is_told_with_the_next(plane: Plane) -> None:
    async def scenario() -> None:
        async with reading(plane.app, "/v1/events", SSE) as reader:
            await asyncio.sleep(1)
            plane.store.append(1.0, "Kind", "app", "past the feed", {})
            plane.happen()
            await reader.until(b"id: 2\n")
            assert told(reader) == [1, 2]

    run(scenario())


def test_readers_that_go_away_leave_nothing_behind(plane: Plane) -> None:
    async def scenario() -> None:
        before = len(asyncio.all_tasks())
        for _ in range(10):
            async with reading(plane.app, "/v1/events", SSE) as reader:
                plane.happen()
                await reader.until(b"id: 1\n")
                assert listeners(plane) == 1
            await asyncio.sleep(0)
            assert listeners(plane) == 0
        await asyncio.sleep(1)
        assert len(asyncio.all_tasks()) == before

    run(scenario())
    gc.collect()


def test_a_reader_that_goes_away_in_the_midst_of_the_past_leaves_nothing_behind(plane: Plane) -> None:
    async def scenario() -> None:
        for _ in range(PAGE * 3):
            plane.happen()
        async with reading(plane.app, "/v1/events", SSE) as reader:
            reader.reads.clear()
            await asyncio.sleep(1)
            reader.gone.set()
            await asyncio.sleep(1)
            assert listeners(plane) == 0

    run(scenario())


def test_streams_end_when_the_server_closes(plane: Plane) -> None:
    async def scenario() -> None:
        async with reading(plane.app, "/v1/events", SSE) as one, reading(plane.app, "/v1/events", SSE) as two:
            plane.happen()
            await one.until(b"id: 1\n")
            plane.close()
            await asyncio.sleep(0.1)
            assert one.ended and two.ended

    run(scenario())


def test_a_store_that_fails_ends_the_stream_with_an_error_event(tmp_path: Path) -> None:
    broken = False

    def fault(method: str) -> None:
        if broken and method == "journal":
            raise StoreError("the disk failed", way_out="look at it")

    plane = Plane(tmp_path, MemoryStore(fault=fault))

    async def scenario() -> None:
        nonlocal broken
        async with reading(plane.app, "/v1/events", SSE) as reader:
            plane.happen()
            await reader.until(b"id: 1\n")
            broken = True
            plane.store.append(1.0, "Kind", "app", "past the feed", {})
            plane.happen()
            await reader.until(b"event: error\n")
            await asyncio.sleep(1)
            assert reader.ended
            problem: Any = json.loads(reader.received.rsplit(b"data: ", 1)[1])
            assert (problem["code"], problem["detail"]) == ("store", "the disk failed")

    run(scenario())


@given(
    st.lists(st.sampled_from(["happen", "stall", "read", "turn", "unseen", "wait"]), max_size=60), st.integers(-5, 5)
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_each_entry_is_told_once_and_in_order(tmp_path: Path, steps: list[str], after: int) -> None:
    plane = Plane(tmp_path)

    async def scenario() -> None:
        for _ in range(3):
            plane.happen()
        async with reading(plane.app, f"/v1/events?after={after}", SSE) as reader:
            for step in steps:
                match step:
                    case "happen":
                        plane.happen()
                    case "stall":
                        reader.reads.clear()
                    case "read":
                        reader.reads.set()
                    case "turn":
                        await asyncio.sleep(0)
                    case "wait":
                        await asyncio.sleep(1)
                    case _:
                        plane.store.append(1.0, "Kind", "app", "past the feed", {})
            reader.reads.set()
            await asyncio.sleep(1)
            last = plane.happen().sequence
            await reader.until(f"id: {last}\n".encode())
            sequences = told(reader)
            assert sequences == list(range(sequences[0], last + 1))
            if after >= 0:
                assert sequences[0] <= max(after, 3) + 1
            if 0 <= after <= 3:
                assert sequences[0] == after + 1

    run(scenario())
