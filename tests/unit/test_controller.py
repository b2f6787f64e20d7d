"""The control loop against an engine, an Envoy and a store that are made up, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from shoal.control.commands import Commands
from shoal.control.controller import Controller
from shoal.control.inbox import Inbox
from shoal.control.journal import Feed
from shoal.control.lag import FRESH_S, LagWatch
from shoal.control.routing import Routing
from shoal.control.status import Identity
from shoal.errors import ConflictError, NotFoundError, StoreError, UsageError
from shoal.mesh.compile import MeshOptions
from shoal.model import event as ev
from shoal.model.app import App
from shoal.model.lag import InboxLag, Lag, OutboxLag
from shoal.model.resources import Kind, Use
from shoal.model.status import ExecContext, Health
from shoal.ports import Launch
from shoal.testing import apps
from shoal.testing.fake_drains import FakeDrains
from shoal.testing.fake_engine import Behaviour, FakeEngine
from shoal.testing.fake_lag import FakeLagReader
from shoal.testing.fake_meter import FakeMeter
from shoal.testing.fake_sink import FakeSink
from shoal.testing.memory_store import MemoryStore
from shoal.testing.virtual_time import VirtualClock, run


class Plane:
    """A daemon's worth of parts. `restart()` is kill -9 and a new daemon over the same store and engine."""

    def __init__(self, behave: Callable[[Launch], Behaviour] | None = None) -> None:
        self.clock = VirtualClock()
        self.inbox = Inbox()
        self.full: set[str] = set()
        self.store = MemoryStore(fault=self._fault)
        self.engine = FakeEngine(self.inbox, self.clock, behave=behave or (lambda launch: Behaviour()))
        self.lag_reader = FakeLagReader()
        self.taken: list[str] = []
        self.under_way: dict[str, int] = {}
        """Requests, of a replica that drains; of others none."""
        self._tasks: list[asyncio.Task[None]] = []
        self._make()

    def _fault(self, method: str) -> None:
        if method in self.full:
            raise StoreError(f"{method}: disk full", way_out="free some room")

    def _make(self) -> None:
        self.sink = FakeSink(self.inbox, self.clock, connected=lambda: self.engine.proxy_pid is not None)
        self.meter = FakeMeter(self.inbox, self.clock)
        """Silent, until somebody runs it."""
        self.drains = FakeDrains(self.inbox, self.clock, lambda one: self.under_way.get(one.replica, 0))
        self.controller = Controller(
            inbox=self.inbox,
            store=self.store,
            engine=self.engine,
            sink=self.sink,
            clock=self.clock,
            routing=Routing(MeshOptions(mesh_socket="/run/mesh.sock")),
            network=77,
            feed=Feed(),
            meter=self.meter,
            drains=self.drains,
        )
        self.commands = Commands(
            self.controller,
            store=self.store,
            clock=self.clock,
            identity=lambda: Identity(folder="/app", version="1", pid=7, names="names", names_reason=""),
            check_ports=lambda app: self.taken,
            context=lambda desired, service: ExecContext(env={}, folder="/", hosts=None, nsswitch=None),
            lag=LagWatch(self.lag_reader, self.clock),
        )

    async def start(self) -> None:
        await self.controller.attach()
        self._tasks = [asyncio.create_task(self.controller.run()), asyncio.create_task(self.sink.run())]
        self._tasks.append(asyncio.create_task(self.drains.run()))
        self._tasks.append(asyncio.create_task(self._reconnect()))

    async def _reconnect(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            if self.engine.proxy_pid is not None:
                self.sink.reconnect()

    async def die(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def restart(self) -> None:
        await self.die()
        routes_to = self.sink.routes_to
        self.inbox = self.engine.inbox = Inbox()
        self._make()
        self.sink.routes_to = routes_to
        await self.start()

    async def power_cut(self) -> None:
        """kill -9 of everything, and a new daemon."""
        await self.die()
        self.engine.processes.clear()
        self.engine.proxy_pid = None
        self.sink.routes_to = frozenset()
        await self.restart()

    async def until(self, condition: Callable[[], bool], *, limit_s: float = 120.0) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.01)

    async def up(self, app: App) -> None:
        await self.commands.deploy(app)
        await self.until(lambda: self.health is Health.READY)

    @property
    def health(self) -> Health:
        return self.commands.status().health

    def ids(self, service: str) -> list[str]:
        return [r.id for r in self.controller.observed.of(service)]

    def journal(self, kind: str) -> list[str]:
        return [e.message for e in self.store.journal(limit=10_000) if e.kind == kind]


@asynccontextmanager
async def _plane(behave: Callable[[Launch], Behaviour] | None = None) -> AsyncIterator[Plane]:
    plane = Plane(behave)
    await plane.start()
    try:
        yield plane
    finally:
        await plane.die()
        plane.engine.close()


def scenario(story: Callable[[Plane], Awaitable[None]], behave: Callable[[Launch], Behaviour] | None = None) -> None:
    async def life() -> None:
        async with _plane(behave) as plane:
            await story(plane)

    run(life())


def test_a_deploy_starts_every_replica_and_routes_to_those_that_are_ready() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app(apps.service("web", replicas=3), "cart"))
        assert plane.ids("web") == ["web-r1", "web-r2", "web-r3"]
        await plane.until(lambda: plane.sink.routes_to == {"web-r1", "web-r2", "web-r3", "cart-r1"})

    scenario(story)


def test_a_killed_replica_comes_back_and_the_journal_has_its_exit_code() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app("web"))
        await plane.engine.crash("web-r1", -9)
        await plane.until(lambda: plane.health is not Health.READY)
        await plane.until(lambda: plane.health is Health.READY)
        assert plane.ids("web") == ["web-r1"]
        assert plane.controller.observed.replicas["web-r1"].attempt == 2
        assert plane.journal("ReplicaExited") == ["ended: killed by signal 9"]

    scenario(story)


def test_a_crash_loop_is_told_once_with_its_exit_code() -> None:
    async def story(plane: Plane) -> None:
        await plane.commands.deploy(apps.app("web"))
        await plane.until(lambda: bool(plane.journal("CrashLoopDetected")))
        status = plane.commands.status().services[0]
        assert status.reason == "crash loop: exit code 3 (5 times in a row)"
        assert plane.journal("CrashLoopDetected") == ["crash loop: exit code 3, 5 times in a row"]

    scenario(story, lambda launch: Behaviour(crashes_after_s=0.1, exit_code=3, boot_s=5))


def test_what_could_not_be_started_says_why_in_status_and_explain() -> None:
    async def story(plane: Plane) -> None:
        await plane.commands.deploy(apps.app("web"))
        await plane.until(lambda: plane.health is Health.FAILING)
        explanation = plane.commands.explain("web")
        assert "no such file: /bin/nope" in explanation.service.reason
        assert any("back-off" in wait for wait in explanation.waits)

    scenario(story, lambda launch: Behaviour(fails_to_start="no such file: /bin/nope"))


def test_a_restarted_daemon_adopts_what_runs_and_restarts_nothing() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app(apps.service("web", replicas=2)))
        pids = {p.pid for p in plane.engine.processes.values()}
        await plane.restart()
        await asyncio.sleep(30)
        assert plane.health is Health.READY
        assert {p.pid for p in plane.engine.processes.values()} == pids
        assert plane.sink.routes_to == {"web-r1", "web-r2"}

    scenario(story)


def test_a_replica_that_died_unseen_is_started_again_by_the_next_daemon() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app("web"))
        await plane.die()
        await plane.engine.crash("web-r1", 4)
        await plane.restart()
        await plane.until(lambda: plane.controller.observed.replicas["web-r1"].attempt == 2)
        await plane.until(lambda: plane.health is Health.READY)
        assert plane.journal("ReplicaExited") == ["ended: exit code 4"]

    scenario(story)


def test_a_process_without_a_record_is_stopped() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app("web"))
        await plane.die()
        plane.store.delete_replica("web-r1")
        await plane.restart()
        await plane.until(lambda: plane.ids("web") == ["web-r2"] and plane.health is Health.READY)
        assert not plane.engine.processes.get("web-r1")
        assert any("without a record" in message for message in plane.journal("Warned"))

    scenario(story)


def test_nothing_starts_while_the_store_refuses_and_everything_once_it_takes() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app("web"))
        plane.full = {"save_replica", "append"}
        await plane.commands.scale("web", 3)
        await asyncio.sleep(20)
        assert list(plane.engine.processes) == ["web-r1"]
        plane.full = set()
        await plane.until(lambda: plane.commands.status().services[0].ready == 3)

    scenario(story)


def test_a_deploy_that_the_store_refuses_changes_nothing() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app("web"))
        plane.full = {"save_desired"}
        with pytest.raises(StoreError, match="disk full"):
            await plane.commands.deploy(apps.app("web", "cart"))
        plane.full = set()
        await asyncio.sleep(5)
        assert [s.name for s in plane.commands.status().services] == ["web"]

    scenario(story)


def test_a_refused_deploy_leaves_the_edges_of_the_app_that_runs() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app(apps.service("web", calls=("cart",)), apps.service("cart", port=3001)))
        before = plane.commands.explain("web").reaches
        plane.full = {"save_desired"}
        with pytest.raises(StoreError, match="disk full"):
            await plane.commands.deploy(apps.app("shop"))
        plane.full = set()
        assert plane.commands.explain("web").reaches == before != {}

    scenario(story)


def test_a_rolling_restart_never_serves_with_fewer_than_wanted() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app(apps.service("web", replicas=3)))
        await plane.until(lambda: len(plane.sink.routes_to) == 3)
        await plane.commands.restart("web")
        least = 99

        def done() -> bool:
            nonlocal least
            least = min(least, len(plane.sink.routes_to))
            return plane.ids("web") == ["web-r4", "web-r5", "web-r6"]

        await plane.until(done)
        assert least == 3

    scenario(story)


def test_an_unchanged_deploy_changes_no_revision_and_no_process() -> None:
    async def story(plane: Plane) -> None:
        app = apps.app("web")
        await plane.up(app)
        deployment = await plane.commands.deploy(app)
        assert deployment.changed == ()
        await asyncio.sleep(10)
        assert plane.ids("web") == ["web-r1"]

    scenario(story)


def test_a_changed_variable_makes_a_revision_that_rolls() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app("web", "cart"))
        changed = apps.app(apps.service("web", env=(("A", "1"),)), apps.service("cart", port=3001))
        assert (await plane.commands.deploy(changed)).changed == ("web",)
        await plane.until(lambda: plane.ids("web") == ["web-r2"])
        assert plane.ids("cart") == ["cart-r1"]
        assert plane.commands.status().services[0].revision == 2

    scenario(story)


def test_down_ends_the_loop_with_nothing_left() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app(apps.service("web", replicas=2)))
        await plane.commands.down()
        await plane.until(lambda: plane._tasks[0].done())
        assert plane.engine.processes == {}
        assert plane.engine.proxy_pid is None
        await plane.restart()  # the next `up` finds a clean state, and goes on counting
        await plane.commands.deploy(apps.app("web"))
        await plane.until(lambda: plane.health is Health.READY)
        assert plane.commands.status().generation == 2
        assert plane.ids("web") == ["web-r3"]

    scenario(story)


def test_a_hung_replica_is_killed_ten_seconds_after_sigterm() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app("web"))
        await plane.commands.scale("web", 0)
        await plane.until(lambda: plane.ids("web") == [])
        signals = [e.data["signal"] for e in plane.store.journal(limit=1000) if e.kind == "StopSent"]
        assert signals == ["SIGTERM", "SIGKILL"]

    scenario(story, lambda launch: Behaviour(ignores_term=True))


def test_a_dead_proxy_is_started_again_and_routes_as_before() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app("web"))
        plane.sink.routes_to = frozenset()
        await plane.engine.proxy_ends(-9)
        await plane.until(lambda: plane.commands.status().proxy.state == "serving" and bool(plane.sink.routes_to))
        assert plane.journal("ProxyExited") == ["Envoy ended: killed by signal 9"]

    scenario(story)


def test_a_denied_call_names_the_line_to_add() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app("web", "cart"))
        await plane.inbox.put(ev.CallDenied(at=plane.clock.now(), caller="web", callee="cart", port=3001))
        await plane.until(lambda: bool(plane.journal("CallDenied")))
        assert plane.journal("CallDenied") == [
            "called cart:3001, which it does not declare; allow it by services.web.calls: [cart]"
        ]

    scenario(story)


def test_commands_refuse_what_makes_no_sense() -> None:
    async def story(plane: Plane) -> None:
        with pytest.raises(NotFoundError, match="nothing is deployed"):
            plane.commands.explain("web")
        plane.taken = ["service 'web' wants port 3000, which pid 412 (nginx) holds; free it or change 'port'"]
        with pytest.raises(ConflictError, match="pid 412"):
            await plane.commands.deploy(apps.app("web"))
        plane.taken = []
        await plane.up(apps.app("web"))
        with pytest.raises(NotFoundError, match="did you mean 'web'"):
            await plane.commands.scale("wev", 1)
        with pytest.raises(UsageError, match="-1 replicas"):
            await plane.commands.scale("web", -1)

    scenario(story)


def test_explain_says_where_each_value_comes_from() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app(apps.service("web", calls=("cart",)), apps.service("cart", port=3001)))
        await plane.commands.scale("web", 2)
        await plane.until(lambda: plane.health is Health.READY)
        explanation = plane.commands.explain("web")
        sources = {s.name: (s.value, s.source) for s in explanation.settings}
        assert sources["replicas"] == ("2", "shoal scale")
        assert sources["calls"] == ("cart", "app file")
        assert sources["health"] == ("answers its protocol, every 1 s, timeout 1 s, 3 failures", "default")
        assert sources["liveness"] == ("restarted when it gives no answer at all for 30 s", "default")
        assert explanation.reaches == {"cart": "127.77.0.2:3001"}
        assert plane.commands.explain("cart").called_by == ("web",)

    scenario(story)


def test_a_status_looks_at_lag_that_is_old_and_all_who_look_wait_for_one_reading() -> None:
    async def story(plane: Plane) -> None:
        reader, commands = plane.lag_reader, plane.commands
        await commands.look_at_lag()
        assert reader.read_apps == []  # nothing is deployed
        await plane.up(apps.app("cart", "mailer"))
        reader.takes_s = 1.0
        reader.lag = Lag(
            inboxes=(
                InboxLag(consumer="cart", behind=12, dead_letters=2),
                InboxLag(consumer="reports", behind=1, dead_letters=0),
            ),
            outboxes={"mailer": OutboxLag(pending=3, oldest_s=12.0)},
            silent_databases={"cart": "no answer in 1 s"},
        )
        began = plane.clock.now()
        await asyncio.gather(commands.look_at_lag(), commands.look_at_lag())
        assert plane.clock.now() == began + 1.0
        await commands.look_at_lag()
        assert reader.read_apps == ["test"]
        status = commands.status()
        cart, mailer = status.services
        assert (cart.inbox, cart.outbox) == (reader.lag.inboxes[0], None)
        assert cart.lag_unknown == ("the outbox of cart is unknown: no answer in 1 s",)
        assert (mailer.inbox, mailer.outbox) == (None, reader.lag.outboxes["mailer"])
        assert status.inboxes == reader.lag.inboxes[1:]
        assert commands.explain("cart").service == cart
        reader.lag = Lag()
        await asyncio.sleep(FRESH_S)
        await commands.look_at_lag()
        assert (len(reader.read_apps), commands.status().services[0].inbox) == (2, None)

    scenario(story)


def test_a_broker_that_is_silent_is_told_of_those_who_use_it() -> None:
    async def story(plane: Plane) -> None:
        used = Use(name="nats", kind=Kind.NATS)
        await plane.up(apps.app(apps.service("cart", uses=(used,)), apps.service("mailer", port=3001)))
        plane.lag_reader.lag = Lag(silent_brokers={"nats": "does not listen"})
        await plane.commands.look_at_lag()
        cart, mailer = plane.commands.status().services
        assert cart.lag_unknown == ("how far events are behind is unknown: nats: does not listen",)
        assert mailer.lag_unknown == ()

    scenario(story)


def test_nobody_asks_the_databases_of_an_app_that_goes_down() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app("cart"))
        plane.lag_reader.lag = Lag(inboxes=(InboxLag(consumer="cart", behind=1, dead_letters=0),))
        await plane.commands.look_at_lag()
        await plane.commands.down()
        await asyncio.sleep(0)
        await plane.commands.look_at_lag()
        status = plane.commands.status()
        assert len(plane.lag_reader.read_apps) == 1
        assert [service.inbox for service in status.services] == [None]

    scenario(story)


def test_a_reading_that_fails_leaves_nothing_old(caplog: pytest.LogCaptureFixture) -> None:
    async def story(plane: Plane) -> None:
        await plane.up(apps.app("cart"))
        plane.lag_reader.lag = Lag(inboxes=(InboxLag(consumer="cart", behind=1, dead_letters=0),))
        await plane.commands.look_at_lag()
        await asyncio.sleep(FRESH_S)
        plane.lag_reader.broken = RuntimeError("a defect")
        await plane.commands.look_at_lag()
        assert plane.commands.status().services[0].inbox is None
        assert "a defect of Shoal" in caplog.text

    scenario(story)
