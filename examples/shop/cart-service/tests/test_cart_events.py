"""What other services tell, and what is left of somebody who has gone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import httpx
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from carts import events
from carts.models import Base
from product_service_model import ProductServiceModel

from shoal.sdk import database
from shoal.sdk.events import new
from shoal.sdk.inbox import Inbox

pytestmark = pytest.mark.anyio
Login = Callable[[int], dict[str, str]]
ANN, BOB = 4711, 2
ADDRESS = "1 Sea Street"


@pytest.fixture
def inbox(client: httpx.AsyncClient) -> Inbox:
    return events.inbox(client.app.state.engine)


async def changed(inbox: Inbox, version: int, name: str, price_minor: int) -> None:
    told = {"id": 1, "name": name, "price_minor": price_minor, "currency": "EUR", "version": version, "colour": "new"}
    await inbox.apply(new("product-service", "product.changed", "1", told))


async def deleted(inbox: Inbox, user_id: int) -> None:
    await inbox.apply(new("user-service", "user.deleted", str(user_id), {"user_id": user_id}))


async def test_a_cart_has_the_newest_names_and_prices_in_whatever_order_they_come(
    client: httpx.AsyncClient, inbox: Inbox, shop: ProductServiceModel
) -> None:
    await changed(inbox, 2, "net", 500)
    path = f"/carts/{(await client.post('/carts')).json()['id']}"
    shown = (await client.put(f"{path}/items/1", json={"quantity": 2})).json()
    assert (shown["items"][0]["name"], shown["total_minor"]) == ("net", 1000)
    assert not shop.asked
    for version, name, price_minor in ((4, "fine net", 700), (3, "coarse net", 600), (4, "other net", 1)):
        await changed(inbox, version, name, price_minor)
    shown = (await client.get(path)).json()
    assert (shown["items"][0]["name"], shown["total_minor"]) == ("fine net", 1400)


async def test_an_order_keeps_the_prices_it_was_bought_at(
    client: httpx.AsyncClient, inbox: Inbox, login: Login
) -> None:
    await changed(inbox, 2, "net", 500)
    order = await bought(client, login(ANN), "k")
    await changed(inbox, 3, "net", 900)
    assert (await client.get("/orders", headers=login(ANN))).json() == [order]
    assert order["total_minor"] == 500


async def test_nothing_personal_is_left_of_who_is_deleted(
    client: httpx.AsyncClient, inbox: Inbox, login: Login, database_url: str
) -> None:
    order = await bought(client, login(ANN), "key-of-ann")
    others = await bought(client, login(BOB), "key-of-bob", "2 Hill Road")
    cart = (await client.post("/carts", headers=login(ANN))).json()
    for _ in range(2):
        await deleted(inbox, ANN)

    assert (await client.get("/orders", headers=login(ANN))).json() == []
    assert (await client.get(f"/carts/{cart['id']}", headers=login(ANN))).status_code == 404
    assert (await client.get("/orders", headers=login(BOB))).json() == [others]
    with sqlite3.connect(database_url.removeprefix("sqlite:///")) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        held = {name: str(list(connection.execute(f"SELECT * FROM {name}"))) for name in tables}
        sums = list(connection.execute("SELECT total_minor FROM orders WHERE id = ?", (order["id"],)))
    connection.close()
    assert sums == [(order["total_minor"],)]
    assert not [name for name, rows in held.items() if ADDRESS in rows or "key-of-ann" in rows]
    # Their number is left where tokens of a deleted account are refused, and in the event until it is published.
    assert [name for name, rows in held.items() if str(ANN) in rows] == ["customers", "shoal_outbox"]


async def test_a_token_that_outlives_its_account_writes_nothing(
    client: httpx.AsyncClient, inbox: Inbox, login: Login
) -> None:
    await deleted(inbox, ANN)
    path = f"/carts/{(await client.post('/carts')).json()['id']}"
    await client.put(f"{path}/items/1", json={"quantity": 1})
    assert (await client.post("/carts", headers=login(ANN))).status_code == 401
    headers = login(ANN) | {"Idempotency-Key": "k"}
    assert (await client.post(f"{path}/checkout", json={"ship_to": ADDRESS}, headers=headers)).status_code == 401


async def test_who_is_deleted_during_a_checkout_buys_nothing(
    client: httpx.AsyncClient, inbox: Inbox, login: Login, shop: ProductServiceModel
) -> None:
    async def delete_ann(request: httpx.Request) -> None:
        if request.method == "PUT":
            await deleted(inbox, ANN)

    shop.after = delete_ann
    path = f"/carts/{(await client.post('/carts', headers=login(ANN))).json()['id']}"
    await client.put(f"{path}/items/1", json={"quantity": 1}, headers=login(ANN))
    headers = login(ANN) | {"Idempotency-Key": "k"}
    answer = await client.post(f"{path}/checkout", json={"ship_to": ADDRESS}, headers=headers)
    assert answer.status_code == 503
    assert not shop.reserved
    shop.adds_up()
    assert (await client.get(path, headers=login(ANN))).status_code == 404


async def bought(
    client: httpx.AsyncClient, headers: dict[str, str], key: str, ship_to: str = ADDRESS
) -> dict[str, object]:
    path = f"/carts/{(await client.post('/carts', headers=headers)).json()['id']}"
    await client.put(f"{path}/items/1", json={"quantity": 1}, headers=headers)
    answer = await client.post(
        f"{path}/checkout", json={"ship_to": ship_to}, headers=headers | {"Idempotency-Key": key}
    )
    assert answer.status_code == 201
    order: dict[str, object] = answer.json()
    return order


async def test_the_migrations_make_what_the_models_say() -> None:
    engine = database.engine()
    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), Base.metadata)
        )
    await engine.dispose()
    assert differences == []
