"""Canaries, through the real controller: what they get, and how each of them ends."""

from __future__ import annotations

import asyncio

import pytest

from shoal.errors import ConflictError, UsageError
from shoal.mesh.snapshot import ENDPOINTS
from shoal.model.app import App
from shoal.model.policy import DEFAULT_ROLLOUT, CanaryPolicy, RolloutPolicy, Strategy
from shoal.model.rollout import CanaryPlan
from shoal.testing import apps
from tests.unit.test_controller import Plane
from tests.unit.test_rollouts import V1, V2, bytes_of, ended, rollout, story_of, web
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


async def deploy(plane: Plane, plan: CanaryPlan | None = PLAN, policy: RolloutPolicy = DEFAULT_ROLLOUT) -> bytes:
    await plane.up(web(rollout=policy))
    await plane.until(lambda: len(plane.sink.routes_to) == 3)
    assert plane.sink.newest is not None
    before = bytes_of(plane.sink.newest.resources)
    await plane.commands.deploy(web(V2, rollout=policy), canary=plan)
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
        impatient = CanaryPolicy(percents=(10,), wait_s_max=60)
        await deploy(plane, None, RolloutPolicy(strategy=Strategy.CANARY, canary=impatient))
        await plane.until(lambda: rollout(plane).step.startswith("stands at 10 %, inconclusive"), limit_s=300)
        assert rollout(plane).step.endswith("shoal promote web, or shoal abort web")
        await asyncio.sleep(60)
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
            await asyncio.sleep(60)
            assert rollout(plane).state == "canary"
            await plane.commands.promote("web")
        assert (await ended(plane)).state == "completed"

    under_traffic(story, {}, per_s=300)


def test_a_daemon_that_dies_goes_on_with_the_canary_where_it_stood() -> None:
    async def story(plane: Plane) -> None:
        await deploy(plane)
        await plane.until(lambda: "50 %" in rollout(plane).step and len(shares(plane)) == 2, limit_s=600)
        weights, told = shares(plane), plane.meter.counters
        await plane.restart()
        plane.meter.counters = told
        sampling = asyncio.create_task(plane.meter.run())
        await plane.until(lambda: len(shares(plane)) == 2)
        assert (rollout(plane).state, shares(plane)) == ("canary", weights)
        assert rollout(plane).step.startswith("revision 2 gets 50 % of the requests")
        assert (await ended(plane, limit_s=600)).state == "completed"
        passed = [line for line in story_of(plane) if line.startswith("passes at ")]
        assert [line.split(":")[0] for line in passed] == ["passes at 10 %", "passes at 50 %"], "no step twice"
        sampling.cancel()

    under_traffic(story, {}, per_s=300)


def test_a_canary_that_cannot_return_alone_takes_the_whole_deploy_back() -> None:
    """What a caller called before it may not have called since: its edge is leased again."""

    def three(version: tuple[tuple[str, str], ...], port: int, once: tuple[str, ...]) -> App:
        return apps.app(
            apps.service("web", env=version, port=port),
            apps.service("cart", port=3100, env=version, calls=("web",)),
            apps.service("users", port=3200, env=version, calls=once),
        )

    async def story(plane: Plane) -> None:
        await plane.up(three(V1, 3000, ("web",)))
        await plane.until(lambda: len(plane.sink.routes_to) == 3)
        await plane.commands.deploy(three(V2, 3001, ()), canary=PLAN)
        await plane.until(lambda: rollout(plane).state == "canary")
        assert ("users", "web") not in plane.controller.edges.edges
        await plane.commands.abort("web")
        for service in ("web", "cart", "users"):
            assert (await ended(plane, service)).state == "rolled-back"
        assert ("users", "web") in plane.controller.edges.edges

    under_traffic(story, {}, per_s=0)


def test_shares_that_are_none_are_refused() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        for percents in ((0.0,), (50.0, 10.0), (100.0,)):
            with pytest.raises(UsageError, match="no growing shares"):
                await plane.commands.deploy(web(V2), canary=CanaryPlan(percents=percents))

    under_traffic(story, {}, per_s=0)
