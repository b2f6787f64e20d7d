"""Jobs in virtual time: the real controller with a made-up engine; and what the app file may say of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from shoal.control.commands import Commands
from shoal.control.controller import Controller
from shoal.control.inbox import Inbox
from shoal.control.journal import Feed
from shoal.control.routing import Routing
from shoal.control.status import Identity
from shoal.errors import ConflictError, UsageError
from shoal.mesh.compile import MeshOptions
from shoal.model.app import App, Job, Restart
from shoal.model.cron import next_after, parse
from shoal.model.status import ExecContext, JobStatus
from shoal.model.world import Desired, Revision, Target
from shoal.planner.jobs import KEPT_RUNS, MISSED_S_MAX, due_at
from shoal.ports import Launch
from shoal.spec.load import load_text
from shoal.spec.problems import SpecError
from shoal.testing import apps
from shoal.testing.fake_engine import Behaviour, FakeEngine
from shoal.testing.fake_sink import FakeSink
from shoal.testing.memory_store import MemoryStore
from shoal.testing.virtual_time import VirtualClock, run


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.inbox = Inbox()
        self.store = MemoryStore()
        self.takes_s, self.exit_code, self.ignores_term = 3.0, 0, False
        self.engine = FakeEngine(self.inbox, self.clock, behave=self._behave)
        self.sink = FakeSink(self.inbox, self.clock, connected=lambda: self.engine.proxy_pid is not None)
        self.controller = self._controller()

    def _behave(self, launch: Launch) -> Behaviour:
        return Behaviour(crashes_after_s=self.takes_s, exit_code=self.exit_code, ignores_term=self.ignores_term)

    def _controller(self) -> Controller:
        return Controller(
            inbox=self.inbox,
            store=self.store,
            engine=self.engine,
            sink=self.sink,
            clock=self.clock,
            routing=Routing(MeshOptions(mesh_socket="/m")),
            network=77,
            feed=Feed(),
        )

    @property
    def commands(self) -> Commands:
        return Commands(
            self.controller,
            store=self.store,
            clock=self.clock,
            identity=lambda: Identity(folder="/app", version="0", pid=1, names="names", names_reason=""),
            check_ports=lambda app: [],
            context=lambda desired, service: ExecContext(env={}, folder="/", hosts=None, nsswitch=None),
        )

    @property
    def job(self) -> JobStatus:
        (job,) = self.commands.status().jobs
        return job

    async def daemon(self, life: Callable[[], Awaitable[None]]) -> None:
        """A daemon's life, from coming up to its end by kill -9."""
        self.inbox = self.engine.inbox = self.sink._inbox = Inbox()
        self.controller = self._controller()
        await self.controller.attach()
        loop = asyncio.create_task(self.controller.run())
        await asyncio.sleep(0)
        try:
            await life()
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)


def backup(schedule: str = "*/5 * * * *", timeout_s: float | None = None) -> App:
    job = Job(schedule=schedule, timeout_s=timeout_s)
    return apps.app(apps.service("backup", port=None, replicas=0, restart=Restart.NEVER, job=job))


def live(life: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        world = World()
        stream = asyncio.create_task(world.sink.run())
        await world.daemon(lambda: life(world))
        world.engine.close()
        stream.cancel()

    run(whole(), limit_s=100_000)


def test_a_job_runs_at_each_of_its_times_and_its_history_is_kept() -> None:
    async def life(world: World) -> None:
        await world.commands.deploy(backup())
        assert (world.job.state, world.job.history) == ("waiting", ())
        for _ in range(25):
            await asyncio.sleep(300)
        job = world.job
        assert [r.started_at % 300 for r in job.history] == [pytest.approx(0, abs=0.01)] * len(job.history)
        assert len(job.history) == KEPT_RUNS
        assert job.history[-1].id == "backup-r25"
        assert {r.state for r in job.history} == {"completed"}
        assert job.history[0].ended_at == pytest.approx(job.history[0].started_at + 3)
        assert len(world.store.load_replicas()) == KEPT_RUNS
        assert job.next_at is not None and 0 < job.next_at - world.clock.now() <= 300

    live(life)


def test_two_runs_are_never_at_once_and_a_missed_one_follows() -> None:
    async def life(world: World) -> None:
        world.takes_s = 700
        await world.commands.deploy(backup())
        await asyncio.sleep(400)
        with pytest.raises(ConflictError, match="backup runs already"):
            await world.commands.run_job("backup")
        await asyncio.sleep(700)
        first, second = world.job.history
        assert first.ended_at is not None
        assert second.started_at == pytest.approx(first.ended_at, abs=0.1)

    live(life)


def test_a_failed_run_says_why_and_is_not_tried_again() -> None:
    async def life(world: World) -> None:
        world.exit_code = 3
        await world.commands.deploy(backup(""))
        assert (await world.commands.run_job("backup")).state == "running"
        await asyncio.sleep(100)
        (only,) = world.job.history
        assert (only.state, only.code, only.reason, only.cause) == ("failed", 3, "exit code 3", "asked for: shoal run")
        assert world.job.next_at is None
        assert [e.message for e in world.store.journal() if e.kind == "ReplicaExited"] == ["failed: exit code 3"]

    live(life)


@pytest.mark.parametrize("ignores_term", [False, True])
def test_a_run_that_takes_too_long_is_ended_and_has_failed(ignores_term: bool) -> None:
    async def life(world: World) -> None:
        world.takes_s, world.ignores_term = 1000, ignores_term
        await world.commands.deploy(backup("", timeout_s=20))
        await world.commands.run_job("backup")
        await asyncio.sleep(40)
        (only,) = world.job.history
        assert (only.state, only.reason) == ("failed", "took longer than its timeout of 20.0 s")
        assert only.ended_at == pytest.approx(only.started_at + (30 if ignores_term else 20.1), abs=0.1)

    live(life)


@pytest.mark.parametrize(("away_s", "runs"), [(1000, 1), (100_000 - 20_000, 1), (5, 0)])
def test_what_was_missed_while_the_daemon_was_down_runs_once(away_s: float, runs: int) -> None:
    async def whole() -> None:
        world = World()
        stream = asyncio.create_task(world.sink.run())

        async def before() -> None:
            await world.commands.deploy(backup())
            await asyncio.sleep(-world.clock.now() % 300 + 10)
            assert len(world.job.history) == 1

        async def after() -> None:
            await asyncio.sleep(5)
            assert len(world.job.history) == 1 + runs

        await world.daemon(before)
        await asyncio.sleep(away_s)
        await world.daemon(after)
        world.engine.close()
        stream.cancel()

    run(whole(), limit_s=200_000)


def test_a_run_missed_by_more_than_an_hour_waits_for_its_next_time() -> None:
    app = backup("0 0 * * *")
    revision = Revision(service=app.services[0], number=1, digest="x", created_at=0.0)
    target = Target(revision=revision, replicas=0)
    desired = Desired(app=app, generation=1, targets={"backup": target}, at=1_800_000_000.0)
    due = next_after(parse("0 0 * * *"), desired.at)
    assert due is not None
    assert due_at(target, [], desired, due + MISSED_S_MAX - 1) == due
    later = due_at(target, [], desired, due + MISSED_S_MAX + 1)
    assert later is not None and later > due + MISSED_S_MAX + 1


def test_history_outlives_down() -> None:
    async def life(world: World) -> None:
        await world.commands.deploy(backup(""))
        await world.commands.run_job("backup")
        await asyncio.sleep(10)
        with pytest.raises(UsageError, match="is a job"):
            await world.commands.scale("backup", 2)
        await world.commands.down()
        await asyncio.sleep(10)
        assert [r.id for r in world.store.load_replicas()] == ["backup-r1"]
        with pytest.raises(ConflictError, match="going down"):
            await world.commands.run_job("backup")

    live(life)


def load(text: str) -> App:
    return load_text(text.encode(), "shoal.yaml", Path("/srv"), {}, "host")


def test_a_job_in_the_app_file() -> None:
    app = load(
        """\
defaults: {env: {A: "1"}}
services: {web: {command: x, port: 3000}}
jobs:
  backup: {command: ./backup.sh, schedule: "@daily", timeout: 10m, calls: [web], env: {URL: "${web.url}"}}
  seed: {command: [python, seed.py]}
"""
    )
    _, backup, seed = app.services
    assert backup.job == Job(schedule="@daily", timeout_s=600)
    assert (backup.calls, backup.env, backup.replicas) == (("web",), (("A", "1"), ("URL", "${web.url}")), 0)
    assert (seed.job, seed.restart) == (Job(), Restart.NEVER)


@pytest.mark.parametrize(
    ("job", "problem"),
    [
        ("web: {command: x}", "jobs.web: there is a service 'web' too; give one of them another name"),
        ("a: {schedule: '@daily'}", "jobs.a: nothing to run; add 'command'"),
        ("a: {command: x, schedule: '60 * * * *'}", "jobs.a.schedule: '60' is no minute, which goes from 0 to 59; "),
        ("a: {command: x, schedule: 5}", "jobs.a.schedule: has 1 fields, and a schedule has five"),
        ("a: {command: x, timeout: soon}", "jobs.a.timeout: must be a time; write it like 90s, 10m or 2h"),
        ("a: {command: x, calls: [db]}", "jobs.a.calls[0]: there is no service 'db'"),
        ("a: {command: x, port: 3000}", "jobs.a.port: unknown key; known: command, schedule, timeout, cwd, env"),
    ],
)
def test_what_is_no_job_is_refused(job: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(f"services: {{web: {{command: x, port: 3000}}}}\njobs:\n  {job}\n")
    (found,) = caught.value.problems
    assert problem in str(found)
