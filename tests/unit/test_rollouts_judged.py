"""Rollouts of revisions that answer, and answer badly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import pytest

from shoal.testing.virtual_time import run
from tests.unit.test_controller import Plane, _plane
from tests.unit.test_rollouts import V2, bytes_of, ended, rollout, story_of, web

STEP_S = 0.1


@dataclass(frozen=True)
class Answers:
    """How a revision answers."""

    errors: float = 0.0
    ms: float = 10.0


def under_traffic(story: Callable[[Plane], Awaitable[None]], answers: Mapping[int, Answers], per_s: float) -> None:
    """`per_s` requests a second in all, each replica that Envoy routes to gets as many as the others."""

    async def traffic(plane: Plane) -> None:
        due: dict[str, float] = {}
        while True:
            await asyncio.sleep(STEP_S)
            there = [plane.controller.observed.replicas[replica] for replica in plane.sink.routes_to]
            for replica in there:
                due[replica.id] = due.get(replica.id, replica.number * 0.37 % 1) + per_s * STEP_S / len(there)
                number = int(due[replica.id])
                due[replica.id] -= number
                how = answers.get(replica.revision, Answers())
                failed = round(number * how.errors)
                plane.meter.answered("web", replica.revision, number, errors=failed, ms=how.ms)

    async def life() -> None:
        async with _plane(None) as plane:
            tasks = [asyncio.create_task(plane.meter.run()), asyncio.create_task(traffic(plane))]
            try:
                await story(plane)
            finally:
                for task in tasks:
                    task.cancel()

    run(life())


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Answers(errors=1.0), "revision 2 failed 100 % of"),
        (Answers(ms=100.0), "revision 2 answers within 100 ms (95 %: 100 ms), revision 1 within 10 ms"),
    ],
    ids=["answers 5xx", "is ten times slower"],
)
def test_a_revision_that_answers_badly_is_taken_back_and_says_why(bad: Answers, why: str, replicas: int) -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web(replicas=replicas))
        await plane.until(lambda: len(plane.sink.routes_to) == replicas)
        before = plane.sink.newest
        await plane.commands.deploy(web(V2, replicas=replicas))
        found = await ended(plane)
        assert (found.state, found.revision) == ("rolled-back", 2)
        assert found.reason.startswith(why)
        await plane.until(lambda: plane.ids("web") == [f"web-r{n}" for n in range(1, replicas + 1)])
        assert before is not None and plane.sink.newest is not None
        assert bytes_of(plane.sink.newest.resources) == bytes_of(before.resources)
        assert story_of(plane)[-2] == f"revision 2 failed: {found.reason}; it goes back to revision 1"

    under_traffic(story, {2: bad}, per_s=300)


def test_a_good_revision_is_rolled_out_after_its_first_requests() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        await plane.commands.deploy(web(V2))
        assert (await ended(plane)).state == "completed"
        told = story_of(plane)
        assert "what revision 2 answers is compared with revision 1" in told

    under_traffic(story, {}, per_s=300)


def test_without_traffic_a_rollout_waits_for_none() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        await plane.commands.deploy(web(V2))
        started = plane.clock.now()
        assert (await ended(plane)).state == "completed"
        assert plane.clock.now() - started < 10

    under_traffic(story, {}, per_s=0)


def test_with_a_trickle_of_traffic_it_waits_a_while_and_goes_on() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        await plane.commands.deploy(web(V2))
        await plane.until(lambda: "compared" in story_of(plane)[-1] or not rollout(plane).under_way)
        first = plane.clock.now()
        await plane.until(lambda: plane.ids("web")[0] != "web-r1")
        assert 10 <= plane.clock.now() - first < 20
        assert (await ended(plane)).state == "completed"

    under_traffic(story, {2: Answers()}, per_s=3)


def test_only_what_is_rolled_out_in_the_place_of_another_revision_is_counted() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        assert plane.meter.watched == frozenset()
        await plane.commands.deploy(web(V2))
        await plane.until(lambda: plane.meter.watched == {"web"})
        await ended(plane)
        await plane.until(lambda: plane.meter.watched == frozenset())
        await plane.commands.restart("web")
        await ended(plane)
        assert plane.meter.watched == frozenset(), "the same revision is not compared with itself"

    under_traffic(story, {}, per_s=300)
