"""`shoal diff`: keys and files, between revisions and against what is written now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shoal.cli.diff import view
from shoal.errors import NotFoundError
from shoal.model.policy import RolloutPolicy
from shoal.testing import apps
from tests.unit.test_controller import Plane, scenario
from tests.unit.test_rollouts import V1, V2, ended, web


def test_two_revisions_differ_in_keys_and_in_files() -> None:
    async def story(plane: Plane) -> None:
        plane.engine.sources = {"web": "s1"}
        plane.engine.trees = {
            "s1": {"a.py": "1", "b.py": "1", "c.py": "1"},
            "s2": {"a.py": "1", "b.py": "2", "d\x1b.py": "1"},
        }
        await plane.up(web(V1))
        plane.engine.sources = {"web": "s2"}
        await plane.commands.deploy(web(V2, rollout=RolloutPolicy(deadline_s=300, rollback=False)))
        await ended(plane)
        found = await plane.commands.diff("web", 1, 2, None)
        assert (found.before, found.after) == (1, 2)
        assert found == replace(await plane.commands.diff("web", 1, None, None), after=2)
        assert view(found) == [
            "web: from revision 1 to revision 2",
            "  env.V",
            "  rollout.deadline: 120s -> 300s",
            "  rollout.rollback: auto -> off",
            "  + d\\x1b.py",
            "  ~ b.py",
            "  - c.py",
        ]
        back = await plane.commands.diff("web", 2, 1, None)
        assert (back.added, back.removed) == (found.removed, found.added)
        assert view(await plane.commands.diff("web", 2, 2, None)) == [
            "web: from revision 2 to revision 2: no difference"
        ]

    scenario(story)


def test_what_is_written_now_is_compared_with_what_is_wanted_and_changes_nothing() -> None:
    async def story(plane: Plane) -> None:
        plane.engine.sources = {"web": "s1"}
        plane.engine.trees = {"s1": {"a.py": "1"}, "s2": {"a.py": "2"}}
        await plane.up(web(V1))
        plane.engine.sources = {"web": "s2"}
        before = plane.controller.desired
        found = await plane.commands.diff("web", None, None, web(V2))
        assert (found.before, found.after, found.changes, found.changed) == (1, None, ("env.V",), ("a.py",))
        assert plane.controller.desired is before and len(plane.store.revisions("web")) == 1

    scenario(story)


def test_what_is_not_there_is_named_with_what_is() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web(V1))
        with pytest.raises(NotFoundError, match="web has no revision 7") as wrong:
            await plane.commands.diff("web", 7, None, None)
        assert "there are: 1" in wrong.value.way_out
        with pytest.raises(NotFoundError, match="has no service 'web'"):
            await plane.commands.diff("web", None, None, apps.app("other"))
        with pytest.raises(NotFoundError, match="has no service 'wbe'"):
            await plane.commands.diff("wbe", 1, None, None)

    scenario(story)
