"""Outbox, inbox and idempotency keys, in SQLite and without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, event, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import registry

from shoal.sdk import database, events, tables
from shoal.sdk.idempotency import Answer, IdempotencyStore
from shoal.sdk.inbox import Inbox
from shoal.sdk.outbox import Outbox, Relay, _Row, _waves
from shoal.sdk.problems import Problem

METADATA = MetaData()
THINGS = Table("things", METADATA, Column("id", Integer, primary_key=True), Column("name", String(20)))
for declare in (tables.outbox, tables.inbox, tables.idempotency):
    declare(METADATA)
Body = Callable[[AsyncEngine], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Body], None]:
    def in_database(body: Body) -> None:
        async def whole() -> None:
            engine = database.engine(f"sqlite:///{tmp_path / 'x.sqlite3'}")
            try:
                async with engine.begin() as connection:
                    await connection.run_sync(METADATA.create_all)
                await body(engine)
            finally:
                await engine.dispose()

        asyncio.run(whole())

    return in_database


async def count(engine: AsyncEngine, table: Table) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()


def test_an_event_is_written_with_its_data_or_not_at_all(run: Callable[[Body], None]) -> None:
    outbox = Outbox("shop", metadata=METADATA)

    async def body(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(THINGS.insert().values(name="net"))
            await outbox.add(session, type="thing.made", subject="1", data={"name": "net"})
        with pytest.raises(RuntimeError):
            async with AsyncSession(engine) as session, session.begin():
                await session.execute(THINGS.insert().values(name="rod"))
                await outbox.add(session, type="thing.made", subject="2", data={})
                raise RuntimeError
        assert (await count(engine, THINGS), await count(engine, outbox.table)) == (1, 1)

    run(body)


class Thing:
    """A row of THINGS, as the ORM has it."""


registry(metadata=METADATA).map_imperatively(Thing, THINGS)


def test_a_row_is_written_before_the_event_that_tells_of_it(run: Callable[[Body], None]) -> None:
    outbox = Outbox("shop", metadata=METADATA)
    written: list[str] = []

    async def body(engine: AsyncEngine) -> None:
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *told: written.append(told[2]))
        # Whether a plain insert flushes what waits in the session depends on SQLAlchemy's version.
        async with AsyncSession(engine, autoflush=False) as session, session.begin():
            session.add(Thing())
            await outbox.add(session, type="thing.made", subject="1", data={})

    run(body)
    assert [line.split()[2] for line in written if line.startswith("INSERT")] == ["things", "shoal_outbox"]


def test_a_commit_wakes_the_relay_of_its_process(run: Callable[[Body], None]) -> None:
    outbox = Outbox("shop", metadata=METADATA)

    async def body(engine: AsyncEngine) -> None:
        waiting = asyncio.create_task(outbox.written(1000.0))
        async with AsyncSession(engine) as session, session.begin():
            await outbox.add(session, type="thing.made", subject="1", data={})
            assert not outbox._written.is_set()
        await waiting

    run(body)


def test_events_of_one_subject_are_published_one_after_another() -> None:
    rows = [_Row(number, str(number), subject, "") for number, subject in enumerate("aabca")]
    assert [[row.id for row in wave] for wave in _waves(rows)] == [[0, 2, 3], [1], [4]]


def test_an_event_takes_effect_once(run: Callable[[Body], None]) -> None:
    async def body(engine: AsyncEngine) -> None:
        inbox = Inbox(engine, name="carts", nats_url="")
        fails = True

        @inbox.on("shop", "thing.*")
        async def made(event: events.Event, session: AsyncSession) -> None:
            await session.execute(THINGS.insert().values(name=event.data["name"]))
            if fails:
                raise RuntimeError("no luck")

        event = events.new("shop", "thing.made", "1", {"name": "net"})
        with pytest.raises(RuntimeError):
            await inbox.apply(event)
        assert await count(engine, THINGS) == 0
        fails = False
        assert [await inbox.apply(event) for _ in range(3)] == [True, False, False]
        assert await count(engine, THINGS) == 1
        with pytest.raises(LookupError):
            await inbox.apply(events.new("shop", "other", "1", {}))
        with pytest.raises(ValueError, match="already"):
            inbox.on("shop", "thing.*")

    run(body)


def test_two_that_apply_an_event_at_once_apply_it_once(run: Callable[[Body], None]) -> None:
    async def body(engine: AsyncEngine) -> None:
        inbox = Inbox(engine, name="carts", nats_url="")

        @inbox.on("shop", ">")
        async def made(event: events.Event, session: AsyncSession) -> None:
            await session.execute(THINGS.insert().values(name="x"))

        event = events.new("shop", "thing.made", "1", {})
        done = await asyncio.gather(*(inbox.apply(event) for _ in range(5)))
        assert sorted(done) == [False] * 4 + [True]

    run(body)


def test_a_key_is_worth_one_piece_of_work(run: Callable[[Body], None]) -> None:
    store = IdempotencyStore(METADATA)

    async def ask(engine: AsyncEngine, key: str, what: str, *, fail: bool = False) -> Answer:
        async with AsyncSession(engine) as session, session.begin():

            async def work() -> Answer:
                made = await session.execute(THINGS.insert().values(name=what))
                assert made.inserted_primary_key is not None
                if fail:
                    raise RuntimeError
                return Answer(201, f"made {made.inserted_primary_key[0]}")

            return await store.once(session, key, fingerprint=what, work=work)

    async def body(engine: AsyncEngine) -> None:
        with pytest.raises(RuntimeError):
            await ask(engine, "k", "net", fail=True)
        answers = await asyncio.gather(*(ask(engine, "k", "net") for _ in range(4)))
        assert set(answers) == {Answer(201, "made 1")}
        assert await count(engine, THINGS) == 1
        with pytest.raises(Problem) as other:
            await ask(engine, "k", "rod")
        assert other.value.status == 422
        for key in ("", "x" * 256, "a\x00"):
            with pytest.raises(Problem) as bad:
                await ask(engine, key, "net")
            assert bad.value.status == 400
        async with AsyncSession(engine) as session, session.begin():
            await store.forget(session, older_than_s=-60)
        assert (await ask(engine, "k", "rod")).body == "made 2"

    run(body)


def test_without_a_broker_a_service_starts_and_says_what_is_missing(
    run: Callable[[Body], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NATS_URL", raising=False)

    async def body(engine: AsyncEngine) -> None:
        async with Relay(Outbox("shop"), engine), Inbox(engine, name="carts"):
            pass

    run(body)
    assert "uses: [nats]" in caplog.text


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("postgresql://u:p%40@h:5/d", "postgresql+asyncpg://u:p%40@h:5/d"),
        ("sqlite:////tmp/x", "sqlite+aiosqlite:////tmp/x"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
    ],
)
def test_the_url_gets_a_driver_for_asyncio(written: str, made: str) -> None:
    assert database.url(written).render_as_string(hide_password=False) == made


def test_a_missing_url_names_the_line_that_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(ValueError, match="database: postgres"):
        database.url()


def test_tables_are_made_once_and_by_their_names(run: Callable[[Body], None]) -> None:
    async def body(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.run_sync(tables.create, "outbox", "inbox")
            await connection.run_sync(tables.drop, "outbox")
            await connection.run_sync(tables.drop, "outbox")
            await connection.run_sync(tables.create, "outbox")
            with pytest.raises(ValueError, match="no table 'outbux'"):
                await connection.run_sync(tables.create, "outbux")

    run(body)
