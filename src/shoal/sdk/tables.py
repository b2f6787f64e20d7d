"""The tables of outbox, inbox and idempotency keys, in a service's own database.

    def upgrade() -> None:                       # in a migration of alembic
        tables.create(op.get_bind(), "outbox", "inbox")

Declared in the metadata of the service's models (`tables.outbox(Base.metadata)`), `alembic revision --autogenerate`
knows them too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Float, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

_NUMBER = BigInteger().with_variant(Integer(), "sqlite")


def outbox(metadata: MetaData) -> Table:
    """Events that are committed and not yet published, in the order of `id`."""
    known = metadata.tables.get("shoal_outbox")
    return known if known is not None else Table(
        "shoal_outbox",
        metadata,
        Column("id", _NUMBER, primary_key=True, autoincrement=True),
        Column("event_id", String(64), nullable=False),
        Column("subject", String(255), nullable=False),
        Column("event", Text, nullable=False),
        Column("created_at", Float(53), nullable=False),
        sqlite_autoincrement=True,
    )  # fmt: skip


def inbox(metadata: MetaData) -> Table:
    """Events that a consumer has applied."""
    known = metadata.tables.get("shoal_inbox")
    return known if known is not None else Table(
        "shoal_inbox",
        metadata,
        Column("consumer", String(100), primary_key=True),
        Column("event_id", String(64), primary_key=True),
        Column("applied_at", Float(53), nullable=False, index=True),
    )  # fmt: skip


def idempotency(metadata: MetaData) -> Table:
    """Answers that were given, by the key that the client chose."""
    known = metadata.tables.get("shoal_idempotency")
    return known if known is not None else Table(
        "shoal_idempotency",
        metadata,
        Column("key", String(255), primary_key=True),
        Column("fingerprint", String(64), nullable=False),
        Column("status", Integer),
        Column("body", Text),
        Column("created_at", Float(53), nullable=False, index=True),
    )  # fmt: skip


_TABLES: dict[str, Callable[[MetaData], Table]] = {"outbox": outbox, "inbox": inbox, "idempotency": idempotency}


async def claim(session: AsyncSession, table: Table, row: Mapping[str, Any]) -> bool:
    """Writes the row, or says that its key is taken. Waits for a transaction that is about to take it."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    keys = list(table.primary_key.columns)
    written = insert(table).values(dict(row)).on_conflict_do_nothing().returning(*keys)
    return (await session.execute(written)).first() is not None


def lock_key(words: str) -> int:
    """Of an advisory lock of PostgreSQL."""
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "big", signed=True)


def create(connection: Connection, *names: str) -> None:
    """Those that are not there yet. ValueError: another name than outbox, inbox, idempotency."""
    for table in _named(names):
        table.create(connection, checkfirst=True)


def drop(connection: Connection, *names: str) -> None:
    for table in _named(names):
        table.drop(connection, checkfirst=True)


def _named(names: tuple[str, ...]) -> list[Table]:
    for name in names:
        if name not in _TABLES:
            raise ValueError(f"there is no table {name!r}; known: {', '.join(_TABLES)}")
    return [_TABLES[name](MetaData()) for name in names]
