"""The service's own database, as its `DATABASE_URL` says: PostgreSQL or SQLite, by SQLAlchemy's asyncio."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

_DRIVERS = {"postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
_BUSY_S = 10.0
"""How long a writer of SQLite waits for other replicas' writes."""


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
