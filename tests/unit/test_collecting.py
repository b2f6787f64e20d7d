"""Old revisions go, and nothing that anybody still needs."""

from __future__ import annotations

import asyncio

from shoal.control.collecting import KEPT
from shoal.errors import StoreError
from shoal.testing import apps
from shoal.testing.fake_engine import Behaviour
from tests.unit.test_controller import Plane, scenario
from tests.unit.test_rollouts import broken, ended, web


def version(number: int) -> tuple[tuple[str, str], ...]:
    return (("V", str(number)),)


def numbers(plane: Plane, service: str = "web") -> list[int]:
    return [revision.number for revision in plane.store.revisions(service)]


async def roll(plane: Plane, *versions: int) -> None:
    for number in versions:
        await plane.commands.deploy(web(version(number), replicas=1))
        await ended(plane)


def test_the_newest_ten_are_kept_and_the_engine_is_told_which() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web(version(1), replicas=1))
        await roll(plane, *range(2, 14))
        await plane.until(lambda: numbers(plane) == list(range(4, 14)))
        assert len(numbers(plane)) == KEPT
        assert plane.engine.collected == [("web", number) for number in range(4, 14)]

    scenario(story)


def test_what_runs_and_what_a_rollback_would_lead_to_stays_however_old() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web(version(1), replicas=1))
        await roll(plane, *range(3, 9))
        await plane.commands.rollback("web", 1)
        await ended(plane)
        for number in range(9, 25):  # each a revision of its own, and none of them any good
            await plane.commands.deploy(apps.app(apps.service("web", replicas=1, env=(("V", "2"), ("N", str(number))))))
            assert (await ended(plane)).state == "rolled-back"
        await roll(plane, 99)
        assert plane.commands.status().services[0].revision == 24
        await plane.until(lambda: 8 not in numbers(plane))
        assert numbers(plane) == [1, *range(15, 25)]
        assert (await plane.commands.rollback("web", None)).revision == 1

    scenario(story, broken(Behaviour(fails_to_start="no")))


def test_a_daemon_that_starts_collects_what_another_version_kept() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web(version(1), replicas=1))
        plane.full.add("delete_revisions")
        await roll(plane, *range(2, 14))
        assert len(numbers(plane)) == 13
        assert any("disk full" in text for text in plane.journal("Warned"))
        plane.full.clear()
        await plane.restart()
        await plane.until(lambda: numbers(plane) == list(range(4, 14)))

    scenario(story)


def test_services_that_were_removed_keep_ten_as_well() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web(version(1), replicas=1))
        await roll(plane, *range(2, 12))
        await plane.commands.deploy(apps.app(apps.service("other")))
        await plane.until(lambda: numbers(plane) == list(range(2, 12)))

    scenario(story)


def test_a_deploy_waits_for_a_collection_under_way() -> None:
    """What it has just taken a snapshot of belongs to no revision yet."""

    async def story(plane: Plane) -> None:
        await plane.up(web(version(1), replicas=1))
        async with plane.controller.collector.away:
            deploy = asyncio.create_task(plane.commands.deploy(web(version(2), replicas=1)))
            await asyncio.sleep(5)
            assert not deploy.done()
        await deploy

    scenario(story)


def test_a_store_that_cannot_be_read_keeps_everything() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web(version(1), replicas=1))
        plane.full.add("every_revision")
        plane.engine.collected = []
        try:
            await plane.controller.collector.collect(
                lambda: (plane.controller.desired, plane.controller.observed.replicas.values())
            )
        except StoreError:
            pass
        assert plane.engine.collected == []

    scenario(story)
