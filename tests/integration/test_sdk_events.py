"""From a transaction in one service to one in another, over the real NATS and PostgreSQL, which are killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nats.js.errors import NotFoundError
from sqlalchemy import Column, Integer, MetaData, Table, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from shoal.sdk import database, dead, streams, tables
from shoal.sdk.inbox import Event, Inbox
from shoal.sdk.outbox import Outbox, Relay
from shoal.sdk.problems import Problem
from tests.support.nats import Nats, nats
from tests.support.postgres import Postgres, postgres

pytestmark = pytest.mark.integration

METADATA = MetaData()
SEEN = Table(
    "seen",
    METADATA,
    Column("thing", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("times", Integer, nullable=False),
)
for declare in (tables.outbox, tables.inbox):
    declare(METADATA)
THINGS = 5


@pytest.fixture(scope="module")
def broker() -> Iterator[Nats]:
    with nats() as server:
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@contextlib.asynccontextmanager
async def engine_of(url: str) -> AsyncIterator[AsyncEngine]:
    engine = database.engine(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(METADATA.create_all)
        yield engine
    finally:
        await engine.dispose()


async def change(engine: AsyncEngine, outbox: Outbox, versions: range) -> None:
    for version in versions:
        async with AsyncSession(engine) as session, session.begin():
            for thing in range(THINGS):
                data = {"thing": thing, "version": version}
                await outbox.add(session, type="thing.changed", subject=str(thing), data=data)


def consumer(engine: AsyncEngine, name: str, source: str, url: str) -> Inbox:
    """Refuses what does not follow in order: it would be a dead letter."""
    inbox = Inbox(engine, name=name, nats_url=url, tries=2)
    insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert

    @inbox.on(source, "thing.changed")
    async def changed(event: Event, session: AsyncSession) -> None:
        row = {"thing": event.data["thing"], "version": event.data["version"], "times": 1}
        counted = {"version": row["version"], "times": SEEN.c.times + 1}
        follows = SEEN.c.version == row["version"] - 1
        kept = insert(SEEN).values(row).on_conflict_do_update(index_elements=["thing"], set_=counted, where=follows)
        if (await session.execute(kept.returning(SEEN.c.thing))).first() is None:
            raise LookupError(f"{row} does not follow")

    return inbox


async def applied(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(select(func.coalesce(func.sum(SEEN.c.times), 0)))).scalar_one()


async def until_applied(engine: AsyncEngine, wanted: int) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Exception):
                if await applied(engine) >= wanted:
                    return
            await asyncio.sleep(0.05)


async def dead_letters(broker: Nats, inbox: str) -> list[dead.Letter]:
    async with streams.connected(broker.url, "test") as connection:
        return [letter async for letter in dead.letters(connection, inbox)]


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_events_arrive_once_and_in_order_by_two_relays_and_two_consumers(
    kind: str, broker: Nats, server: Postgres, tmp_path: Path
) -> None:
    url = server.database() if kind == "postgres" else f"sqlite:///{tmp_path / 'x.sqlite3'}"
    outbox = Outbox(f"both-{kind}", metadata=METADATA)

    async def body() -> None:
        async with engine_of(url) as engine, contextlib.AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(Relay(outbox, engine, broker.url))
                await stack.enter_async_context(consumer(engine, f"in-{kind}", outbox.source, broker.url))
            await change(engine, outbox, range(20))
            await until_applied(engine, 20 * THINGS)
            async with engine.connect() as connection:
                assert (await connection.execute(select(func.count()).select_from(outbox.table))).scalar_one() == 0
                assert set(await connection.scalars(select(SEEN.c.version))) == {19}

    asyncio.run(body())
    assert asyncio.run(dead_letters(broker, f"in-{kind}")) == []


def test_killed_brokers_and_databases_lose_nothing_and_apply_nothing_twice() -> None:
    outbox = Outbox("killed", metadata=METADATA)

    async def body(broker: Nats, server: Postgres, url: str) -> None:
        async with engine_of(url) as engine:
            broker.kill()
            async with Relay(outbox, engine, broker.url), consumer(engine, "killed", "killed", broker.url):
                await change(engine, outbox, range(10))  # NATS is away: nobody waits for it
                await asyncio.to_thread(broker.start)
                await until_applied(engine, 3 * THINGS)
                broker.kill()
                await asyncio.to_thread(broker.start)
                await change(engine, outbox, range(10, 20))
                await until_applied(engine, 12 * THINGS)
                server.kill()
                await asyncio.to_thread(server.start)
                await change(engine, outbox, range(20, 30))
                await until_applied(engine, 30 * THINGS)
            assert await applied(engine) == 30 * THINGS

    with nats() as broker, postgres() as server:
        asyncio.run(body(broker, server, server.database()))
        assert asyncio.run(dead_letters(broker, "killed")) == []


def test_what_cannot_be_applied_is_a_dead_letter_that_can_be_replayed(
    broker: Nats, server: Postgres, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.database()
    outbox = Outbox("poison", metadata=METADATA)
    mended = False

    async def body(*, versions: range, wanted: int) -> None:
        async with engine_of(url) as engine:
            inbox = Inbox(engine, name="poison", nats_url=broker.url, tries=2)

            @inbox.on("poison", "thing.changed")
            async def changed(event: Event, session: AsyncSession) -> None:
                if event.data["version"] == 1 and not mended:
                    raise ZeroDivisionError("version 1 is\nbad")
                row = {"thing": 100 * event.data["version"] + event.data["thing"], "version": 0, "times": 1}
                await session.execute(SEEN.insert().values(row))

            async with Relay(outbox, engine, broker.url), inbox:
                await change(engine, outbox, versions)
                await until_applied(engine, wanted)

    asyncio.run(body(versions=range(3), wanted=2 * THINGS))
    monkeypatch.setenv("NATS_URL", broker.url)
    assert dead.main(["list", "--json", "--inbox", "poison"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [letter["subject"] for letter in listed] == ["events.poison.thing.changed"] * THINGS
    assert "ZeroDivisionError('version 1 is\\nbad')" in listed[0]["error"]
    assert dead.main(["drop", "999999"]) == 1
    assert dead.main(["drop", str(listed[0]["id"])]) == 0
    mended = True
    assert dead.main(["replay", "--inbox", "poison"]) == 0
    assert f"replayed {THINGS - 1}" in capsys.readouterr().out
    asyncio.run(body(versions=range(0), wanted=3 * THINGS - 1))
    assert dead.main(["list", "--inbox", "poison"]) == 0
    assert "no dead letters" in capsys.readouterr().out


def test_a_relay_that_dies_leaves_its_place_to_another(broker: Nats, server: Postgres) -> None:
    url = server.database()
    outbox = Outbox("leader", metadata=METADATA)

    async def body() -> None:
        async with contextlib.AsyncExitStack() as stack:
            first, second = [await stack.enter_async_context(engine_of(url)) for _ in range(2)]
            leading = Relay(outbox, first, broker.url)
            async with leading, consumer(second, "leader", "leader", broker.url):
                await change(second, outbox, range(1))
                await until_applied(second, THINGS)
                async with Relay(outbox, second, broker.url):
                    # As kill -9 of the first would end its session.
                    end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
                    async with second.begin() as connection:
                        await connection.execute(text(end))
                    await change(second, outbox, range(1, 3))
                    await until_applied(second, 3 * THINGS)

    asyncio.run(body())


async def subscribed(inbox: str, subject: str, broker: Nats) -> None:
    async with asyncio.timeout(30), streams.connected(broker.url, "test") as connection:
        while True:
            with contextlib.suppress(NotFoundError):
                config = (await connection.js.consumer_info(streams.EVENTS, inbox)).config
                if subject in streams.subjects(config):
                    return
            await asyncio.sleep(0.02)


def test_revisions_that_know_other_types_leave_each_others_events_alone(
    broker: Nats, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.sdk.inbox._STRANGE_S", 0.05)
    url = server.database()
    outbox = Outbox("types", metadata=METADATA)

    async def body() -> None:
        async with engine_of(url) as engine:
            taken: list[str] = []
            more = asyncio.Event()

            def revision(*types: str) -> Inbox:
                inbox = Inbox(engine, name="types", nats_url=broker.url)
                for kind in types:

                    @inbox.on("types", kind)
                    async def take(event: Event, session: AsyncSession) -> None:
                        taken.append(event.type)
                        more.set()

                return inbox

            async def make(*types: str) -> None:
                async with AsyncSession(engine) as session, session.begin():
                    for kind in types:
                        await outbox.add(session, type=kind, subject="1", data=None)

            async def until(*types: str) -> None:
                async with asyncio.timeout(30):
                    while sorted(taken) != sorted(types):
                        more.clear()
                        await more.wait()

            async with Relay(outbox, engine, broker.url):
                async with revision("old", "new"), revision("old"):
                    # The older one takes nothing from the newer one, whoever subscribes last. (What was published
                    # before a type was subscribed to is not sent to an inbox that is further already.)
                    await subscribed("types", "events.types.new", broker)
                    await make("new", "old", "new", "old")
                    await until("new", "old", "new", "old")
                async with revision("old"):
                    # The newer one is away for long: its events stand in nobody's way, and are kept.
                    await make("new", "new", "old")
                    await until("new", "old", "new", "old", "old")
            kept = await dead_letters(broker, "types")
            assert [letter.subject for letter in kept] == ["events.types.new"] * 2
            async with streams.connected(broker.url, "test") as connection:
                with pytest.raises(ValueError, match="nothing any more"):
                    await dead.unsubscribe(connection, "types", ["events.types.new", "events.types.old"])
                assert await dead.unsubscribe(connection, "types", ["events.types.new"]) == ["events.types.old"]

    asyncio.run(body())


def test_an_inbox_whose_consumer_is_deleted_asks_for_another(broker: Nats, server: Postgres) -> None:
    url = server.database()
    outbox = Outbox("deleted", metadata=METADATA)

    async def body() -> None:
        async with contextlib.AsyncExitStack() as stack:
            engine = await stack.enter_async_context(engine_of(url))
            await stack.enter_async_context(Relay(outbox, engine, broker.url))
            await stack.enter_async_context(consumer(engine, "deleted", "deleted", broker.url))
            await change(engine, outbox, range(1))
            await until_applied(engine, THINGS)
            async with streams.connected(broker.url, "test") as connection:
                await connection.js.delete_consumer(streams.EVENTS, "deleted")
            await change(engine, outbox, range(1, 2))
            await until_applied(engine, 2 * THINGS)

    asyncio.run(body())


def test_an_event_that_kills_its_consumer_is_a_dead_letter(
    broker: Nats, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.sdk.inbox._DEATHS_MAX", 2)
    monkeypatch.setattr("shoal.sdk.inbox.ACK_WAIT_S", 0.5)
    url = server.database()
    outbox = Outbox("deadly", metadata=METADATA)

    async def body() -> None:
        async with engine_of(url) as engine, Relay(outbox, engine, broker.url):
            await change(engine, outbox, range(1))
            for _ in range(2):
                inbox, began = Inbox(engine, name="deadly", nats_url=broker.url), asyncio.Event()

                @inbox.on("deadly", "thing.changed")
                async def changed(event: Event, session: AsyncSession, began: asyncio.Event = began) -> None:
                    began.set()
                    await asyncio.sleep(1000)

                async with inbox:
                    await began.wait()  # and dies
            async with consumer(engine, "deadly", "deadly", broker.url):
                await until_applied(engine, THINGS - 1)

    asyncio.run(body())
    [letter] = asyncio.run(dead_letters(broker, "deadly"))
    assert "taken up 2 times" in letter.error


def test_a_transaction_waits_for_a_database_that_is_started_again() -> None:
    async def body(server: Postgres, url: str) -> None:
        async with engine_of(url) as engine:
            server.kill()
            back = asyncio.create_task(asyncio.to_thread(server.start))
            async with database.Transactions(engine, wait_s=60).begin() as session:
                await session.execute(SEEN.insert().values(thing=1, version=0, times=1))
            await back
            assert await applied(engine) == 1
            server.kill()
            try:
                with pytest.raises(Problem) as caught:
                    async with database.Transactions(engine, wait_s=0).begin():
                        pass
            finally:
                await asyncio.to_thread(server.start)
            assert caught.value.status == 503

    with postgres() as server:
        asyncio.run(body(server, server.database()))


def test_a_damaged_store_of_nats_is_read_as_far_as_it_goes() -> None:
    """As docs/howto/databases.md says it: a newer nats-server that does otherwise should be noticed."""

    async def publish(broker: Nats, count: int) -> int:
        async with streams.connected(broker.url, "test") as connection:
            for _ in range(count):
                await connection.js.publish("events.a.b", b"x" * 400)
            return (await connection.js.stream_info(streams.EVENTS)).state.messages

    with nats() as broker:
        assert asyncio.run(publish(broker, 100)) == 100
        broker.kill()
        [block] = broker.folder.rglob("SHOAL_EVENTS/msgs/1.blk")
        with block.open("r+b") as file:
            file.seek(20_000)
            file.write(b"\xff" * 100)
        broker.start()
        assert 1 < asyncio.run(publish(broker, 1)) < 50
