"""All or nothing of what a request does with the database."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from shoal.sdk.problems import Problem

_log = logging.getLogger(__name__)


class Transactions:
    """`async with transactions.begin() as session`: committed at the end of the block, unless that raises."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """Problem 503: the database is away, or has no time. Whether what was done is lost is then unknown."""
        try:
            async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except (IntegrityError, ProgrammingError, DataError):
            raise  # our own mistake: it would fail again
        except (OSError, DBAPIError, PoolTimeoutError) as error:
            _log.warning("the database does not answer: %r", error)
            raise Problem(503, detail="the database does not answer", headers={"Retry-After": "1"}) from error
