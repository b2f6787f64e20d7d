"""Rollouts, through the real controller: what runs while they are under way, and how each of them ends."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from shoal.errors import ConflictError, NotFoundError
from shoal.model.app import App, Gateway, Route
from shoal.model.policy import RolloutPolicy
from shoal.model.rollout import ENDED_ROLLOUTS, ROLLOUT_TRANSITIONS, RolloutState
from shoal.model.status import Health, RolloutStatus
from shoal.ports import Launch
from shoal.testing import apps
from shoal.testing.fake_engine import Behaviour
from tests.unit.test_controller import Plane, scenario

V1, V2, V3 = ((("V", str(n)),) for n in (1, 2, 3))
KINDS = (
    "RolloutStarted", "RolloutAdvanced", "RolloutCompleted", "RolloutFailed", "RolledBack", "RolloutSuperseded",
)  # fmt: skip


def web(env: tuple[tuple[str, str], ...] = V1, replicas: int = 3, **more: object) -> App:
    return apps.app(apps.service("web", replicas=replicas, env=env, **more))


def rollout(plane: Plane, service: str = "web") -> RolloutStatus:
    status = next(s for s in plane.commands.status().services if s.name == service)
    assert status.rollout is not None
    return status.rollout


async def ended(plane: Plane, service: str = "web", limit_s: float = 400.0) -> RolloutStatus:
    await plane.until(lambda: not rollout(plane, service).under_way, limit_s=limit_s)
    return rollout(plane, service)


def story_of(plane: Plane, service: str = "web") -> list[str]:
    return [e.message for e in plane.store.journal(limit=10_000) if e.kind in KINDS and e.subject == service]


def broken(behaviour: Behaviour) -> Callable[[Launch], Behaviour]:
    """Revisions with V=2 behave so; all others well."""
    return lambda launch: replace(behaviour) if dict(launch.revision.service.env).get("V") == "2" else Behaviour()


def test_a_first_deploy_is_a_rollout_too() -> None:
    async def story(plane: Plane) -> None:
        await plane.commands.deploy(web())
        assert (await ended(plane)).state == "completed"
        told = story_of(plane)
        assert told[:2] == ["deploy 1: revision 1 is rolled out", "revision 1 is ready to start"]
        assert told[-1].startswith("revision 1 is rolled out, after ")

    scenario(story)


def test_a_deploy_reads_as_a_sentence() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        before = len(story_of(plane))
        await plane.commands.deploy(web(V2))
        assert (await ended(plane)).state == "completed"
        told = story_of(plane)[before:]
        assert told[:-1] == [
            "deploy 2: revision 2 is rolled out in the place of revision 1",
            "revision 2 is ready to start",
            "1 of 3 replicas are of revision 2",
            "2 of 3 replicas are of revision 2",
            "3 of 3 replicas are of revision 2",
        ]
        assert told[-1].startswith("revision 2 is rolled out, after ")

    scenario(story)


CRASHES = Behaviour(crashes_after_s=0.1, exit_code=7, boot_s=5)
NEVER_READY = Behaviour(boot_s=1e6)
NO_START = Behaviour(fails_to_start="no such file: gone")


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (CRASHES, "web-r4 crashed: exit code 7, 3 times in a row"),
        (NEVER_READY, "0 of 3 ready, and no more within 120.0 s: web-r4 is starting"),
        (NO_START, "web-r4 crashed: no such file: gone, 3 times in a row"),
    ],
    ids=["crashes", "never ready", "does not start"],
)
def test_a_bad_revision_is_taken_back_and_says_why(behaviour: Behaviour, why: str) -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        await plane.until(lambda: len(plane.sink.routes_to) == 3)
        before = plane.sink.newest
        await plane.commands.deploy(web(V2, port=3009))
        found = await ended(plane)
        assert (found.state, found.revision, found.reason) == ("rolled-back", 2, why)
        await plane.until(lambda: plane.ids("web") == ["web-r1", "web-r2", "web-r3"])
        after = plane.sink.newest
        assert before is not None and after is not None
        assert bytes_of(after.resources) == bytes_of(before.resources)
        assert plane.commands.status().services[0].revision == 1
        assert story_of(plane)[-2:] == [
            f"revision 2 failed: {why}; it goes back to revision 1",
            "is back at revision 1, all as before revision 2",
        ]

    scenario(story, broken(behaviour))


def bytes_of(resources: object) -> dict[tuple[str, str], bytes]:
    return {
        (kind, name): message.SerializeToString(deterministic=True)
        for kind, named in resources.items()  # type: ignore[attr-defined]
        for name, message in named.items()
    }


def test_a_revision_that_cannot_be_made_never_starts_and_is_taken_back() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        plane.engine._prepares = lambda preparation: "npm ci failed"
        await plane.commands.deploy(web(V2))
        found = await ended(plane)
        assert (found.state, found.reason, found.tail) == ("rolled-back", "npm ci failed", ("the log's last line",))
        assert plane.ids("web") == ["web-r1", "web-r2", "web-r3"]
        assert not any(
            e.data.get("revision") == 2 for e in plane.store.journal(limit=999) if e.kind == "ReplicaScheduled"
        )

    scenario(story)


def test_where_there_is_nothing_to_return_to_it_is_tried_until_it_works() -> None:
    async def story(plane: Plane) -> None:
        fails = True
        plane.engine._prepares = lambda preparation: "no network" if fails else ""
        await plane.commands.deploy(web())
        assert (await ended(plane)).state == "failed"
        assert plane.health is Health.FAILING
        fails = False
        await plane.until(lambda: plane.health is Health.READY)
        assert rollout(plane).state == "completed"

    scenario(story)


def test_the_same_content_is_tried_again_by_the_next_deploy_under_its_number() -> None:
    async def story(plane: Plane) -> None:
        bad = True
        plane.engine._behave = lambda launch: replace(CRASHES) if bad and launch.revision.number == 2 else Behaviour()
        await plane.up(web())
        await plane.commands.deploy(web(V2))
        assert (await ended(plane)).state == "rolled-back"
        bad = False
        deployment = await plane.commands.deploy(web(V2))
        assert deployment.rolling == ("web",)
        assert (await ended(plane)).state == "completed"
        assert plane.commands.status().services[0].revision == 2

    scenario(story)


def test_the_old_content_after_a_rollback_changes_nothing() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        await plane.commands.deploy(web(V2))
        await ended(plane)
        await plane.until(lambda: plane.ids("web") == ["web-r1", "web-r2", "web-r3"])
        assert (await plane.commands.deploy(web())).rolling == ()
        assert rollout(plane).state == "rolled-back"

    scenario(story, broken(CRASHES))


def test_a_newer_deploy_supersedes_and_returns_past_the_half_rolled_one() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        await plane.commands.deploy(web(V2))
        await plane.until(lambda: any(r.revision == 2 for r in plane.controller.observed.of("web")))
        plane.engine._behave = broken_three
        await plane.commands.deploy(web(V3))
        found = await ended(plane)
        assert (found.state, found.revision, found.previous) == ("rolled-back", 3, 1)
        await plane.until(lambda: plane.health is Health.READY)
        assert {r.revision for r in plane.controller.observed.of("web")} == {1}
        assert "revision 2 is rolled out no further: revision 3 takes its place" in story_of(plane)

    def broken_three(launch: Launch) -> Behaviour:
        return replace(CRASHES) if launch.revision.number == 3 else Behaviour()

    scenario(story)


def test_one_that_crashes_while_the_next_revision_is_made_comes_back_as_it_was() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        plane.engine.prepare_s = 30.0
        await plane.commands.deploy(web(V2))
        await plane.engine.crash("web-r2")
        await plane.until(lambda: len(plane.sink.routes_to) == 2)
        await plane.until(lambda: len(plane.sink.routes_to) == 3)
        assert rollout(plane).state == "preparing"
        assert plane.ids("web") == ["web-r1", "web-r2", "web-r3"]
        assert (await ended(plane)).state == "completed"

    scenario(story)


def test_a_restart_rolls_and_is_taken_back_like_a_deploy() -> None:
    async def story(plane: Plane) -> None:
        bad = False
        plane.engine._behave = lambda launch: replace(CRASHES) if bad else Behaviour()
        await plane.up(web())
        bad = True
        await plane.commands.restart("web")
        assert (await ended(plane)).state == "rolled-back"
        await plane.until(lambda: plane.ids("web") == ["web-r1", "web-r2", "web-r3"])
        bad = False
        await plane.commands.restart("web")
        assert (await ended(plane)).state == "completed"
        await plane.until(lambda: not {"web-r1", "web-r2", "web-r3"} & set(plane.ids("web")))

    scenario(story)


def test_other_services_of_the_deploy_go_on_by_themselves() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app(apps.service("web", env=V1), apps.service("cart", port=3001, env=V1)))
        app = apps.app(apps.service("web", env=V2), apps.service("cart", port=3001, env=V3))
        await plane.commands.deploy(app)
        assert (await ended(plane)).state == "rolled-back"
        assert (await ended(plane, "cart")).state == "completed"
        assert [s.revision for s in plane.commands.status().services] == [1, 2]

    scenario(story, broken(CRASHES))


def test_the_whole_deploy_returns_where_the_rest_needs_what_failed() -> None:
    """cart moves its port and fails; web was told of the new one."""

    def shop(env: tuple[tuple[str, str], ...], port: int, *more: str) -> App:
        app = apps.app(
            apps.service("web", calls=("cart",)),
            apps.service("cart", port=port, env=env),
            *(apps.service(name, port=3050) for name in more),
        )
        return replace(app, gateway=Gateway(port=8080, routes=(Route(service="cart", path="/"),)))

    async def story(plane: Plane) -> None:
        await plane.up(shop(V1, 3001, "old"))
        await plane.until(lambda: len(plane.sink.routes_to) == 3)
        before = plane.sink.newest
        await plane.commands.deploy(shop(V2, 3005, "fresh"))
        assert (await ended(plane, "cart")).state == "rolled-back"
        assert (await ended(plane, "web")).state in ("rolled-back", "completed")
        await plane.until(lambda: plane.health is Health.READY and len(plane.sink.routes_to) == 3)
        assert [(s.name, s.revision) for s in plane.commands.status().services] == [("web", 1), ("cart", 1), ("old", 1)]
        assert plane.ids("fresh") == []
        after = plane.sink.newest
        assert before is not None and after is not None
        assert {k: v for k, v in bytes_of(after.resources).items() if "ClusterLoad" not in k[0]} == {
            k: v for k, v in bytes_of(before.resources).items() if "ClusterLoad" not in k[0]
        }

    scenario(story, broken(CRASHES))


def test_without_automatic_rollback_the_old_ones_serve_beside_what_is_tried_again() -> None:
    policy = RolloutPolicy(rollback=False)

    async def story(plane: Plane) -> None:
        await plane.up(web(rollout=policy))
        await plane.commands.deploy(web(V2, rollout=policy))
        assert (await ended(plane)).state == "failed"
        assert plane.sink.routes_to == {"web-r1", "web-r2", "web-r3"}
        await plane.commands.deploy(web(V3, rollout=policy))
        assert (await ended(plane)).state == "completed"

    scenario(story, broken(CRASHES))


def test_many_at_once_and_some_missing_when_the_app_file_says_so() -> None:
    policy = RolloutPolicy(surge=2, unavailable=1)

    async def story(plane: Plane) -> None:
        await plane.up(web(replicas=4, rollout=policy))
        await plane.until(lambda: len(plane.sink.routes_to) == 4)
        await plane.commands.deploy(web(V2, replicas=4, rollout=policy))
        least, most = 9, 0

        def done() -> bool:
            nonlocal least, most
            least = min(least, len(plane.sink.routes_to))
            there = [r for r in plane.controller.observed.of("web") if not r.leaving]
            most = max(most, len(there))
            return not rollout(plane).under_way

        await plane.until(done)
        assert (least, most) == (3, 6)

    scenario(story)


def test_a_daemon_that_dies_at_any_moment_of_a_rollout_goes_on_where_it_was() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        env = V1
        for moment in range(60):
            env = V2 if env is V1 else V1
            await plane.commands.deploy(web(env))
            await asyncio.sleep(moment * 0.1)
            await plane.restart()
            assert (await ended(plane)).state == "completed", moment
            assert len(plane.sink.routes_to) >= 3

    scenario(story)


def test_killed_all_together_at_a_hundred_moments_a_deploy_ends_whole_the_old_or_the_new() -> None:
    """Daemon, keeper, Envoy and every replica: a power cut. Each third deploy is of a revision that does not run."""

    async def story(plane: Plane) -> None:
        await plane.up(web())
        dice = random.Random(4)
        ends = Counter[str]()
        for _ in range(100):
            env = dice.choice([e for e in (V1, V2, V3) if e != env_of(plane)])
            await plane.commands.deploy(web(env))
            await asyncio.sleep(dice.uniform(0, 8))
            await plane.power_cut()
            ends[(await ended(plane)).state] += 1
            target = plane.controller.desired.targets["web"] if plane.controller.desired else None
            assert target is not None and target.service.env != V2
            await plane.until(
                lambda target=target: (  # type: ignore[misc]
                    [r.revision for r in plane.controller.observed.replicas.values()] == [target.revision.number] * 3
                    and plane.sink.routes_to == plane.controller.observed.replicas.keys()
                )
            )
        assert min(ends["completed"], ends["rolled-back"]) > 10, ends

    scenario(story, broken(Behaviour(crashes_after_s=0.1)))


def env_of(plane: Plane) -> tuple[tuple[str, str], ...]:
    assert plane.controller.desired is not None
    return plane.controller.desired.targets["web"].service.env


def test_every_state_but_the_last_ones_can_be_left() -> None:
    left = {state for state, _ in ROLLOUT_TRANSITIONS}
    assert left | ENDED_ROLLOUTS == set(RolloutState)
    assert set(ROLLOUT_TRANSITIONS.values()) == set(RolloutState) - {RolloutState.PREPARING}


def test_one_service_alone_is_deployed_and_the_rest_stays() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app(apps.service("web", env=V1), apps.service("cart", port=3001, env=V1)))
        app = apps.app(apps.service("web", env=V3), apps.service("cart", port=3001, env=V3), "more")
        partly = plane.commands.partly(app, ["cart"])
        deployment = await plane.commands.deploy(partly, only={"cart"})
        assert deployment.rolling == ("cart",)
        await ended(plane, "cart")
        assert [(s.name, s.revision) for s in plane.commands.status().services] == [("web", 1), ("cart", 2)]

    scenario(story)


def test_a_rollback_runs_the_older_revision_and_the_next_deploy_goes_forward_again() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        await plane.commands.deploy(web(V2, port=3009))
        await ended(plane)
        await plane.commands.scale("web", 2)
        status = await plane.commands.rollback("web", None)
        assert status.rollout is not None and (status.rollout.cause, status.rollout.previous) == ("rollback", 2)
        assert (await ended(plane)).state == "completed"
        service = plane.commands.status().services[0]
        assert (service.revision, service.port, service.wanted) == (1, 3000, 2)
        assert (await plane.commands.deploy(web(V2, port=3009))).rolling == ("web",)
        assert (await ended(plane)).state == "completed"
        assert plane.commands.status().services[0].revision == 2

    scenario(story)


def test_a_rollback_that_makes_no_sense_is_refused() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        with pytest.raises(NotFoundError, match="no older revision"):
            await plane.commands.rollback("web", None)
        with pytest.raises(NotFoundError, match="no revision 7"):
            await plane.commands.rollback("web", 7)
        with pytest.raises(ConflictError, match="at revision 1 already"):
            await plane.commands.rollback("web", 1)

        def shop(env: tuple[tuple[str, str], ...], port: int) -> App:
            return apps.app(apps.service("web", env=env, calls=("cart",)), apps.service("cart", port=port, env=env))

        await plane.commands.deploy(shop(V1, 3001))
        await ended(plane)
        await plane.commands.deploy(shop(V2, 3002))
        await ended(plane)
        await ended(plane, "cart")
        with pytest.raises(ConflictError, match="does not fit"):
            await plane.commands.rollback("cart", None)

    scenario(story)


def test_revisions_tell_what_changed_and_how_it_went() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        await plane.commands.deploy(web(V2))
        await ended(plane)
        one, two = plane.commands.revisions("web").revisions
        assert (one.number, one.state, one.wanted, one.replicas) == (1, "completed", True, 3)
        assert (two.number, two.state, two.wanted, two.changes) == (2, "failed", False, ("env.V",))
        assert two.reason == "web-r4 crashed: exit code 7, 3 times in a row"

    scenario(story, broken(CRASHES))
