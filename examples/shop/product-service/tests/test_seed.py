"""The seed fills the shop once, and the schema that migrations make is the one that the code means."""

from __future__ import annotations

import asyncio

import pytest
from alembic import command
from alembic.config import Config
from products.seed import seed

from conftest import FOLDER, Service, bearer
from shoal.sdk import database


@pytest.mark.anyio
async def test_two_hundred_products_are_added_once_and_told(service: Service) -> None:
    engine = database.engine()
    assert await seed(engine) == 200
    first = (await service.http.get("/products", params={"size": 100})).json()
    assert first["total"] == len({data["name"] for _, data in await service.told()}) == 200
    assert all(product["price_minor"] > 0 and len(product["description"]) > 20 for product in first["items"])
    await service.http.patch("/products/1", json={"name": "Mug of ours"}, headers=bearer("staff"))
    assert await seed(engine) == 0
    await engine.dispose()
    assert (await service.http.get("/products/1")).json()["name"] == "Mug of ours"
    assert (await service.http.get("/products")).json()["total"] == 200


@pytest.mark.anyio
async def test_seeds_that_run_at_once_add_one_set(service: Service) -> None:
    engine = database.engine()
    assert sum(await asyncio.gather(*(seed(engine) for _ in range(3)))) == 200
    await engine.dispose()


def test_migrations_make_what_the_models_say_and_take_it_away(database_url: str) -> None:
    config = Config(FOLDER / "alembic.ini")
    command.check(config)
    command.downgrade(config, "base")
    command.upgrade(config, "head")
    command.check(config)
