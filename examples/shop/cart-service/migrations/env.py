"""Where alembic finds the database: where the service finds it, in `DATABASE_URL`."""

from __future__ import annotations

import asyncio

from alembic import context
from carts.models import Base
from sqlalchemy import Connection

from shoal.sdk import database


def migrate(connection: Connection) -> None:
    # SQLite can take back a CREATE TABLE too, though alembic does not count on it.
    context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    engine = database.engine()
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


asyncio.run(main())
