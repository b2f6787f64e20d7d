"""The shop's product-service on the real PostgreSQL: its stock adds up, whatever is asked of it at once."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from shoal.sdk import events
from tests.support.postgres import Postgres, postgres

FOLDER = Path(__file__).parents[2] / "examples" / "shop" / "product-service"
STOCK = {1: 6, 2: 3, 3: 1, 4: 9}

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def url(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    url = server.database()
    alembic = [sys.executable, "-m", "alembic", "upgrade", "head"]
    subprocess.run(alembic, cwd=FOLDER, env=os.environ | {"DATABASE_URL": url}, check=True, timeout=60)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.delenv("NATS_URL", raising=False)
    monkeypatch.syspath_prepend(str(FOLDER))
    return url


@asynccontextmanager
async def product_service() -> AsyncIterator[httpx.AsyncClient]:
    from products.app import app

    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://product-service") as client,
    ):
        yield client


async def stocks() -> dict[int, int]:
    from products.app import app
    from products.models import Product

    async with app.state.transactions.begin() as session:
        return {product.id: product.stock for product in await session.scalars(select(Product))}


async def fill() -> None:
    from products import catalogue
    from products.app import app
    from products.schemas import NewProduct

    async with app.state.transactions.begin() as session:
        for stock in STOCK.values():
            await catalogue.add(session, NewProduct(name="Net", price_minor=500, stock=stock))


async def ask(client: httpx.AsyncClient, order_id: str, quantities: dict[int, int]) -> int:
    lines = [{"product_id": product_id, "quantity": quantity} for product_id, quantity in quantities.items()]
    return (await client.put(f"/reservations/{order_id}", json={"lines": lines})).status_code


@pytest.mark.parametrize("seed", range(3))
def test_stock_adds_up_whatever_orders_do_at_once(url: str, seed: int) -> None:
    draw = random.Random(seed)
    orders = {
        str(uuid.UUID(int=draw.getrandbits(128), version=4)): {
            product_id: draw.randint(1, 2) for product_id in draw.sample(sorted(STOCK), draw.randint(1, 3))
        }
        for _ in range(40)
    }
    seen: Counter[tuple[str, int]] = Counter()

    async def one(client: httpx.AsyncClient, order_id: str, quantities: dict[int, int]) -> None:
        """It asks twice at once, and most think better of it, also twice, some before they have an answer."""
        acts = [ask(client, order_id, quantities), ask(client, order_id, quantities)]
        hasty, reconsidered = draw.random() < 0.3, draw.random() < 0.6
        releases = [client.delete(f"/reservations/{order_id}") for _ in range(2 * (hasty or reconsidered))]
        if hasty:
            *answers, first, second = await asyncio.gather(*acts, *releases)
        else:
            answers = await asyncio.gather(*acts)
            if 200 not in answers:  # nothing to sell or to give back, but it may come again
                answers.append(await ask(client, order_id, quantities))
            elif not reconsidered:
                await sell(order_id)
            first, second = await asyncio.gather(*releases) if releases else (None, None)
        seen.update(("PUT", status) for status in answers)
        seen.update(("DELETE", answer.status_code) for answer in (first, second) if answer is not None)

    async def sell(order_id: str) -> None:
        from products.app import app

        assert await app.state.inbox.apply(events.new("cart-service", "order.paid", order_id, {"order_id": order_id}))

    async def main() -> None:
        async with product_service() as client:
            await fill()
            async with asyncio.TaskGroup() as tasks:
                for order_id, quantities in orders.items():
                    tasks.create_task(one(client, order_id, quantities))
            kept = await keeping()
            assert {product_id: left + kept[product_id] for product_id, left in (await stocks()).items()} == STOCK
            # When all that can be are released, what is missing is what was sold.
            for order_id in orders:
                await client.delete(f"/reservations/{order_id}")
            sold = await keeping()
            assert {product_id: left + sold[product_id] for product_id, left in (await stocks()).items()} == STOCK
            assert sold.total() > 0

    asyncio.run(main())
    assert set(seen) == {("PUT", 201), ("PUT", 200), ("PUT", 409), ("DELETE", 204)}


async def keeping() -> Counter[int]:
    """How many of each product are reserved or sold."""
    from products.app import app
    from products.models import Reservation, ReservationLine, Status

    lines = select(ReservationLine).join(Reservation, Reservation.order_id == ReservationLine.order_id)
    kept: Counter[int] = Counter()
    async with app.state.transactions.begin() as session:
        for line in await session.scalars(lines.where(Reservation.status != Status.RELEASED)):
            kept[line.product_id] += line.quantity
    return kept


def test_of_many_who_want_the_last_ones_as_many_get_them_as_there_are(url: str) -> None:
    async def main() -> None:
        async with product_service() as client:
            await fill()
            orders = [str(uuid.UUID(int=number)) for number in range(40)]
            # Each wants things in another order: without locks in one order, some would wait for each other for ever.
            wants = [{1: 1, 4: 1}, {4: 1, 1: 1}]
            answers = await asyncio.gather(*(ask(client, order_id, wants[n % 2]) for n, order_id in enumerate(orders)))
            assert Counter(answers) == {201: STOCK[1], 409: 40 - STOCK[1]}
            assert await stocks() == STOCK | {1: 0, 4: STOCK[4] - STOCK[1]}

    asyncio.run(main())
