"""Canaries, through the real controller: what they get, and how each of them ends."""

from __future__ import annotations

import asyncio

import pytest

from shoal.errors import ConflictError
from shoal.mesh.snapshot import ENDPOINTS
from shoal.model.rollout import CanaryPlan, CanaryStep
from tests.unit.test_controller import Plane
from tests.unit.test_rollouts import V2, bytes_of, ended, rollout, story_of, web
from tests.unit.test_rollouts_judged import Answers, under_traffic

PLAN = CanaryPlan()


def shares(plane: Plane) -> dict[int, int]:
    """revision -> the sum of the weights of its endpoints; 1 each where they have none."""
    assert plane.sink.newest is not None
    found: dict[int, int] = {}
    for locality in plane.sink.newest.resources[ENDPOINTS]["web"].endpoints[:1]:  # the next ones drain
        for endpoint in locality.lb_endpoints:
            revision = int(endpoint.metadata.filter_metadata["envoy.lb"]["revision"])
            found[revision] = found.get(revision, 0) + (endpoint.load_balancing_weight.value or 1)
    return found


async def deploy(plane: Plane, plan: CanaryPlan = PLAN) -> bytes:
    await plane.up(web())
    await plane.until(lambda: len(plane.sink.routes_to) == 3)
    assert plane.sink.newest is not None
    before = bytes_of(plane.sink.newest.resources)
    await plane.commands.deploy(web(V2), canary=plan)
    return before  # type: ignore[return-value]


def test_a_good_canary_goes_through_its_steps_and_takes_over() -> None:
    seen: list[tuple[dict[int, int], int]] = []

    async def watch(plane: Plane) -> None:
        while True:
            await asyncio.sleep(0.1)
            running = [r for r in plane.controller.observed.replicas.values() if not r.leaving]
            assert len(running) <= 4, "at most surge above"
            if rollout(plane).state == "canary" and len(found := shares(plane)) == 2:
                seen.append((found, sum(r.state == "ready" for r in running)))

    async def story(plane: Plane) -> None:
        await deploy(plane)
        watching = asyncio.create_task(watch(plane))
        assert (await ended(plane, limit_s=900)).state == "completed"
        watching.cancel()
        parts = [100 * found[2] / sum(found.values()) for found, _ in seen]
        assert sorted(set(parts)) == [10, 50]
        assert min(ready for _, ready in seen) >= 3
        told = story_of(plane)
        assert any(line.startswith("passes at 10 %: revision 2 failed 0 %") for line in told)
        assert any(line.startswith("passes at 50 %: revision 2 failed 0 %") for line in told)
        assert set(shares(plane)) == {2}

    under_traffic(story, {}, per_s=300)


@pytest.mark.parametrize(
    ("bad", "why"),
    [(Answers(errors=0.2), "revision 2 failed"), (Answers(ms=25.0), "revision 2 answers within 25 ms")],
    ids=["errors", "slower"],
)
def test_a_bad_canary_is_taken_back_and_all_is_as_before(bad: Answers, why: str) -> None:
    async def story(plane: Plane) -> None:
        before = await deploy(plane)
        found = await ended(plane, limit_s=900)
        assert found.state == "rolled-back"
        assert found.reason.startswith(why)
        await plane.until(lambda: plane.ids("web") == ["web-r1", "web-r2", "web-r3"])
        assert plane.sink.newest is not None
        assert bytes_of(plane.sink.newest.resources) == before

    under_traffic(story, {2: bad}, per_s=300)


def test_without_traffic_a_canary_stands_until_a_person_decides() -> None:
    async def story(plane: Plane) -> None:
        await deploy(plane, CanaryPlan(steps=(CanaryStep(percent=10, wait_s_max=60),)))
        await plane.until(lambda: rollout(plane).step.startswith("stands at 10 %, inconclusive"), limit_s=300)
        assert rollout(plane).step.endswith("shoal promote web, or shoal abort web")
        await asyncio.sleep(3600)
        assert rollout(plane).state == "canary"
        await plane.commands.promote("web")
        assert (await ended(plane)).state == "completed"
        with pytest.raises(ConflictError, match="no canary under way"):
            await plane.commands.promote("web")

    under_traffic(story, {}, per_s=0)


def test_a_person_aborts_a_canary() -> None:
    async def story(plane: Plane) -> None:
        before = await deploy(plane)
        await plane.until(lambda: rollout(plane).state == "canary" and rollout(plane).new == 1)
        await plane.commands.abort("web")
        found = await ended(plane)
        assert (found.state, found.reason) == ("rolled-back", "aborted: shoal abort")
        await plane.until(lambda: plane.ids("web") == ["web-r1", "web-r2", "web-r3"])
        assert plane.sink.newest is not None
        assert bytes_of(plane.sink.newest.resources) == before

    under_traffic(story, {}, per_s=0)


def test_by_hand_a_good_canary_waits_for_each_step() -> None:
    async def story(plane: Plane) -> None:
        await deploy(plane, CanaryPlan(auto=False))
        for percent in (10, 50):
            await plane.until(lambda p=percent: f"{p} % of the requests and passes" in rollout(plane).step, limit_s=600)
            await asyncio.sleep(600)
            assert rollout(plane).state == "canary"
            await plane.commands.promote("web")
        assert (await ended(plane)).state == "completed"

    under_traffic(story, {}, per_s=300)


def test_a_daemon_that_dies_goes_on_with_the_canary_where_it_stood() -> None:
    async def story(plane: Plane) -> None:
        await deploy(plane)
        await plane.until(lambda: any("50 %" in line for line in (rollout(plane).step,)), limit_s=600)
        told = plane.meter.counters
        await plane.restart()
        plane.meter.counters = told
        assert "50 %" in rollout(plane).step or rollout(plane).state == "canary"

    under_traffic(story, {}, per_s=300)
