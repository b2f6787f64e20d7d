"""Starts, stops and ends that meet at the worst moments."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from shoal.errors import EngineError
from shoal.model.event import Event, ReplicaExited, ReplicaStarted
from tests.integration.engine_box import Box, run
from tests.support.processes import alive

pytestmark = pytest.mark.integration

IDLE = "import time; time.sleep(1000)"


def test_a_replica_can_be_stopped_as_soon_as_its_start_returns(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        job = box.python("job", IDLE, port=None)

        async def start_and_stop(number: int) -> None:
            replica = await box.start(job, number=number)
            assert await box.engine.stop(replica, force=True)
            assert (await box.exit(replica)).code == -signal.SIGKILL
            assert box.of(replica) == ["ReplicaStarted", "ReplicaExited"]

        await asyncio.gather(*(start_and_stop(number) for number in range(1, 13)))

    run(tmp_path, scenario)


def test_the_next_attempt_may_follow_a_failed_one_at_once(tmp_path: Path) -> None:
    """Asked for by whoever hears of the failure, in that very moment."""

    async def scenario(box: Box) -> None:
        bad = box.command("web", "shoal-no-such-command")
        starts: list[asyncio.Task[str]] = []
        put = box.put

        async def put_and_start(event: Event) -> None:
            await put(event)
            if isinstance(event, ReplicaExited) and event.attempt < 4:
                starts.append(asyncio.create_task(box.start(bad, attempt=event.attempt + 1)))
                await asyncio.sleep(0)

        box.engine._inbox = type("Inbox", (), {"put": staticmethod(put_and_start)})()
        await box.start(bad)
        await box.exit("web-r1", attempt=4)
        await asyncio.gather(*starts)

    run(tmp_path, scenario)


@pytest.mark.parametrize("force", [False, True])
def test_a_stop_while_the_keeper_starts_it_is_not_lost(force: bool, tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        job = box.python("job", IDLE, port=None)
        call = box.engine._link.call

        async def call_and_stop(op: str, **fields: Any) -> dict[str, Any]:
            if op == "spawn":
                assert await box.engine.stop("job-r1", force=force)
            return await call(op, **fields)

        box.engine._link.call = call_and_stop  # type: ignore[method-assign]
        await box.start(job)
        assert (await box.exit("job-r1")).code == -(signal.SIGKILL if force else signal.SIGTERM)
        assert box.of("job-r1") == ["ReplicaStarted", "ReplicaExited"]

    run(tmp_path, scenario)


def test_another_attempt_while_one_is_prepared_is_refused(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        job = box.python("job", IDLE, port=None)
        first = asyncio.create_task(box.start(job))
        await asyncio.sleep(0)
        with pytest.raises(EngineError, match="still starts its attempt 1"):
            await box.start(job, attempt=2)
        await first

    run(tmp_path, scenario)


def test_a_cancelled_start_leaves_nothing_half_done(tmp_path: Path) -> None:
    """As when the daemon ends: what the keeper was not asked for never runs."""

    async def scenario(box: Box) -> None:
        box.write("requirements.txt", "--no-index\n")
        job = box.python("job", IDLE, port=None)
        start = asyncio.create_task(box.start(job))
        await asyncio.sleep(0)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert box.of("job-r1") == []
        await box.ready(job)

    run(tmp_path, scenario)


def test_a_quick_death_is_told_after_its_start(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        job = box.command("job", "true", port=None)
        ends = await asyncio.gather(*(box.start(job, number=number) for number in range(1, 21)))
        for replica in ends:
            assert (await box.exit(replica)).code == 0
            assert box.of(replica) == ["ReplicaStarted", "ReplicaExited"]

    run(tmp_path, scenario)


def test_closing_the_engine_ends_no_process(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        job = box.python("job", IDLE, port=None)
        replica = await box.start(job)
        pid = (await box.event(ReplicaStarted, replica)).pid
        await box.disconnect()
        assert alive(pid)
        await box.connect()
        assert [(one.replica, one.running) for one in await box.engine.observe()] == [(replica, True)]

    run(tmp_path, scenario)
