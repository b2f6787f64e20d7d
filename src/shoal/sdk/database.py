"""The service's own database, as its `DATABASE_URL` says: PostgreSQL or SQLite, by SQLAlchemy's asyncio.

engine = database.engine()
transactions = database.Transactions(engine)

async with transactions.begin() as session:      # committed at the end; 503 while the database is away
    ...
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from shoal.sdk import deadline
from shoal.sdk.problems import Problem

_DRIVERS = {"postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
_BUSY_S = 10.0
"""How long a writer of SQLite waits for other replicas' writes."""
_AGAIN_S = 0.1
_OUR_MISTAKE = (IntegrityError, ProgrammingError, DataError)
_AWAY = (OSError, DBAPIError, PoolTimeoutError)
_log = logging.getLogger("shoal.sdk.database")


def url(written: str | None = None) -> URL:
    """`DATABASE_URL`, with the driver for asyncio. ValueError: it is not set."""
    text = written or os.environ.get("DATABASE_URL", "")
    if not text:
        raise ValueError(
            "DATABASE_URL is not set; write 'database: postgres' (or sqlite) beside the service in the app file"
        )
    found = make_url(text)
    return found.set(drivername=_DRIVERS.get(found.drivername, found.drivername))


def engine(written: str | None = None, **options: Any) -> AsyncEngine:
    """Survives a database that is restarted: a connection is asked before it is used.

    SQLite: WAL, foreign keys, and every transaction takes the right to write at its beginning, so that two replicas
    that read and then write wait for each other instead of failing."""
    where = url(written)
    if where.get_backend_name() == "sqlite":
        made = create_async_engine(where, connect_args={"timeout": _BUSY_S}, **options)
        event.listen(made.sync_engine, "connect", _prepare_sqlite)
        event.listen(made.sync_engine, "begin", _begin_sqlite)
        return made
    return create_async_engine(where, **{"pool_pre_ping": True, "pool_size": 5, "max_overflow": 5} | options)


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # SQLAlchemy begins, not the driver
    cursor = connection.cursor()
    try:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
    finally:
        cursor.close()


def _begin_sqlite(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class Transactions:
    """`async with transactions.begin() as session`: committed at the end of the block, unless that raises.

    A handler has the block inside: as a dependency it would end after the answer is sent, and might fail then.
    `wait_s`: how long a transaction waits for a database that is away, as one is that is started again; it never
    waits longer than the caller of the request does.
    """

    def __init__(self, engine: AsyncEngine, *, wait_s: float = 3.0) -> None:
        self._engine, self._wait_s = engine, wait_s

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """Problem 503: the database is away, or has no time. Whether what was done is lost is then unknown."""
        try:
            opened = await self._opened()
        except _AWAY as error:
            raise _away(error) from error
        async with opened as session:
            try:
                yield session
                await session.commit()  # else it is rolled back
            except _OUR_MISTAKE:
                raise  # it would fail again
            except DBAPIError as error:
                raise _away(error) from error

    async def _opened(self) -> AsyncSession:
        """With a connection: nothing has been done yet, so this may be tried again."""
        until = time.monotonic() + deadline.remaining_s(self._wait_s) - _AGAIN_S
        while True:
            session = AsyncSession(self._engine, expire_on_commit=False)
            try:
                await session.connection()
                return session
            except BaseException as error:
                await session.close()
                if not isinstance(error, _AWAY) or time.monotonic() > until:
                    raise
            await asyncio.sleep(_AGAIN_S)


def _away(error: BaseException) -> Problem:
    _log.warning("the database does not answer: %s", str(error).partition("\n")[0])
    return Problem(503, detail="the database does not answer", headers={"Retry-After": "1"})
