"""What the engine removes of what no revision needs any more, and what it leaves alone."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from shoal.engines.local import old_logs
from shoal.engines.local.environments import FINISHED, Environments
from shoal.model.app import App
from shoal.model.event import ReplicaStarted
from shoal.model.world import Revision
from tests.integration.engine_box import Box, engine_box

pytestmark = pytest.mark.integration


def kept(box: Box) -> tuple[set[str], int]:
    """The digests of the snapshots, and how many copies of them there are."""
    snapshots = {path.parent.name for path in box.state.sources.glob("*/snapshot.json")}
    return snapshots, sum(path.is_dir() and not path.name.startswith(".") for path in box.state.builds.glob("*"))


def test_an_older_revisions_snapshot_stays_while_a_replica_of_it_runs_and_then_goes(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()

    async def scenario() -> None:
        async with engine_box(tmp_path / "app") as box:
            box.write("code/program.py", "import time\nprint('one', flush=True)\ntime.sleep(1000)\n")
            service = box.command("worker", "python3", "program.py", folder=str(box.folder / "code"), port=None)
            app = App(name="test", services=(service,), folder=str(box.folder))

            async def deployed(number: int) -> Revision:
                source = (await box.engine.snapshot(app, keep=True))["worker"]
                return Revision(service=service, number=number, digest=str(number), created_at=0.0, source=source)

            old = await deployed(1)
            launch = replace(box.launch(service), revision=old, app=app)
            await box.engine.start(launch)
            await box.event(ReplicaStarted, launch.replica)
            await box.logged(service, "one")
            box.write("code/program.py", "print('two')\n")
            new = await deployed(2)
            assert old.source != new.source

            await box.engine.collect([new])
            assert kept(box) == ({old.source, new.source}, 1)
            await box.engine.stop(launch.replica, force=True)
            await box.exit(launch.replica)
            await box.engine.collect([new])
            assert kept(box) == ({new.source}, 0)
            await box.engine.collect([new])
            assert kept(box) == ({new.source}, 0)

    asyncio.run(scenario())


def test_environments_go_that_nobody_needs_and_half_of_one_stays(tmp_path: Path) -> None:
    for name in ("needed", "old", "half"):
        (tmp_path / name / "bin").mkdir(parents=True)
    for name in ("needed", "old"):
        (tmp_path / name / FINISHED).write_text("{}")
    environments = Environments(tmp_path)
    environments.collect({tmp_path / "needed"})
    environments.collect({tmp_path / "needed"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half", "needed"]
    Environments(tmp_path / "never made").collect(set())


def test_the_newest_logs_of_a_service_stay_and_those_that_are_written(tmp_path: Path) -> None:
    logs = tmp_path / "web"
    logs.mkdir()
    for number in range(old_logs.KEPT + 5):
        for name in (f"web-r{number}.log", f"web-r{number}.log.1"):
            (logs / name).write_text("x")
            os.utime(logs / name, (number, number))
    (tmp_path / "daemon.log").write_text("x")
    old_logs.collect(tmp_path, {logs / "web-r1.log"})
    gone = {f"web-r{number}.log{end}" for number in (0, 2, 3, 4) for end in ("", ".1")}
    there = {path.name for path in logs.iterdir()}
    assert not gone & there and len(there) == 2 * (old_logs.KEPT + 1)
    assert (tmp_path / "daemon.log").exists()
    old_logs.collect(tmp_path / "never made", set())
