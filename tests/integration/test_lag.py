"""How far events are behind, as the real NATS and PostgreSQL tell it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from shoal.engines.local.ports import PortLeases
from shoal.engines.local.resources.kept import Resources
from shoal.engines.local.resources.lag import READ_S, LocalLagReader
from shoal.model.app import App
from shoal.model.lag import InboxLag, Lag
from shoal.model.resources import Database, Keeping, Kind, Resource, Use
from shoal.paths import StateFolder
from shoal.sdk import database, streams, tables
from shoal.sdk.outbox import Outbox
from shoal.testing import apps
from tests.support.nats import Nats, nats
from tests.support.postgres import Postgres, postgres

pytestmark = pytest.mark.integration

USE = Use(name="postgres", kind=Kind.POSTGRES)
NATS = apps.service("nats", port=4222, workload=Resource(kind=Kind.NATS))
CART = apps.service("cart", database=Database(keeping=Keeping.POSTGRES, owner="cart", use=USE))


@pytest.fixture(scope="module")
def broker() -> Iterator[Nats]:
    with nats() as server:
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


class Box:
    """A state folder that says where the servers are."""

    def __init__(self, folder: Path) -> None:
        self.state = StateFolder(folder)

    def keep(self, resource: str, name: str, text: str) -> None:
        folder = self.state.root / "resources" / resource
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    def keep_database(self, url: str) -> None:
        parts = urlsplit(url)
        self.keep("postgres", "port", str(parts.port))
        self.keep("postgres", f"{parts.username}.password", str(parts.password))

    async def read(self, app: App) -> Lag:
        reader = LocalLagReader(Resources(self.state, PortLeases("test")), lambda app, service: {"PASSWORD": "wrong"})
        return await reader.read(app)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


async def declare(to: streams.Streams, inbox: str) -> None:
    """As `Inbox` does."""
    for stream, subject in ((streams.EVENTS, "events.product.>"), (streams.DEAD, f"dead.{inbox}")):
        wanted = ConsumerConfig(durable_name=inbox, filter_subject=subject, ack_policy=AckPolicy.EXPLICIT)
        await to.js.add_consumer(stream, wanted)


def test_what_an_inbox_has_not_applied_is_counted_and_its_dead_letters(box: Box, broker: Nats) -> None:
    box.keep("nats", "monitoring", str(broker.monitoring))

    async def story() -> None:
        app = apps.app(NATS)
        assert await box.read(app) == Lag()
        async with streams.connected(broker.url, "test") as to:
            assert await box.read(app) == Lag()
            await declare(to, "cart")
            await declare(to, "mailer")
            for number in range(3):
                await to.js.publish("events.product.changed", str(number).encode())
            await to.js.publish("events.user.deleted", b"")  # nobody's
            letters = [await to.js.publish("dead.cart", b"") for _ in range(2)]
            mailer = InboxLag(consumer="mailer", behind=3, dead_letters=0)
            expected = InboxLag(consumer="cart", behind=3, dead_letters=2)
            assert (await box.read(app)).inboxes == (expected, mailer)
            pull = await to.js.pull_subscribe_bind(consumer="cart", stream=streams.EVENTS)
            first, second = await pull.fetch(2)
            assert (await box.read(app)).inboxes == (expected, mailer)  # with what is under way
            await first.ack_sync()
            await second.ack_sync()
            await to.js.delete_msg(streams.DEAD, letters[0].seq)
            assert (await box.read(app)).inboxes[0] == InboxLag(consumer="cart", behind=1, dead_letters=1)

    asyncio.run(story())


def test_an_outbox_is_counted_once_its_transaction_is_done(box: Box, server: Postgres) -> None:
    url = server.database("cart")

    async def story() -> None:
        app = apps.app(CART)
        assert await box.read(app) == Lag()  # never started
        box.keep_database(url)
        assert await box.read(app) == Lag()  # no table
        engine, outbox = database.engine(url), Outbox("cart")
        try:
            async with engine.begin() as connection:
                await connection.run_sync(tables.create, "outbox")
            empty = (await box.read(app)).outboxes["cart"]
            assert (empty.pending, empty.oldest_s) == (0, 0.0)
            async with engine.begin() as connection:
                for number in range(3):
                    await outbox.add(connection, type="order.paid", subject=str(number), data={})
                assert (await box.read(app)).outboxes["cart"].pending == 0
            found = (await box.read(app)).outboxes["cart"]
            assert found.pending == 3 and 0 < found.oldest_s < 60
        finally:
            await engine.dispose()

    asyncio.run(story())


def test_what_answers_no_or_not_at_all_is_unknown_with_its_reason(box: Box, server: Postgres) -> None:
    box.keep_database(server.database("cart"))
    box.keep("postgres", "mailer.password", "wrong")
    there = urlsplit(server.database())
    url = f"postgresql://somebody:${{secret.PASSWORD}}@127.0.0.1:{there.port}/postgres"
    outside = Use(name="postgres", kind=Kind.POSTGRES, url=url)
    away = Use(name="postgres", kind=Kind.POSTGRES, url="postgresql://x@127.0.0.1:1/x")

    async def story() -> None:
        async def silent(connection: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
            await connection.read()
            answer.close()

        mute = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with mute:
            box.keep("nats", "monitoring", str(mute.sockets[0].getsockname()[1]))
            databases = {"mailer": USE, "billing": outside, "search": away}
            services = [
                apps.service(name, database=Database(keeping=Keeping.POSTGRES, owner=name, use=use))
                for name, use in databases.items()
            ]
            found = await box.read(apps.app(NATS, CART, *services))
        assert found.silent_brokers == {"nats": f"no answer in {READ_S:g} s"}
        assert found.silent_databases == {
            "mailer": 'FATAL: password authentication failed for user "mailer"',
            "billing": 'FATAL: password authentication failed for user "somebody"',
            "search": "Connection refused",
        }

    asyncio.run(story())
