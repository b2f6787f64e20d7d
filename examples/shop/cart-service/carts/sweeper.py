"""A task in each replica that ends what has been left: half-done checkouts, and answers that nobody asks for again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator

from carts.checkout import Checkout
from carts.models import idempotency
from shoal.sdk.database import Transactions

EVERY_S = 2.0
ANSWERS_KEPT_S = 24 * 3600.0
_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def sweeping(checkout: Checkout, sessions: Transactions) -> AsyncIterator[None]:
    task = asyncio.create_task(_sweep(checkout, sessions), name="sweeper")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _sweep(checkout: Checkout, sessions: Transactions) -> None:
    chance = random.Random()
    while True:
        # Not all replicas at once: they would find the same orders.
        await asyncio.sleep(EVERY_S * chance.uniform(0.5, 1.5))
        try:
            await checkout.sweep()
            async with sessions.begin() as session:
                await idempotency.forget(session, older_than_s=ANSWERS_KEPT_S)
        except Exception as error:  # the database is away: it comes back
            _log.warning("the sweeper waits: %r", error)
