"""The HTTP API, in this process, without NATS."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import httpx
import pytest
from product_service_model import ProductServiceModel

pytestmark = pytest.mark.anyio
Login = Callable[[int], dict[str, str]]
ANN, BOB = 1, 2
SHIP = {"ship_to": "1 Sea Street"}


def key(text: str) -> dict[str, str]:
    return {"Idempotency-Key": text}


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"]


async def new_cart(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **quantities: int) -> str:
    made = await client.post("/carts", headers=headers)
    assert made.status_code == 201
    path = f"/carts/{made.json()['id']}"
    for product, quantity in quantities.items():
        put = await client.put(f"{path}/items/{product[1:]}", json={"quantity": quantity}, headers=headers)
        assert put.status_code == 200
    return path


async def test_a_cart_is_filled_changed_emptied_and_deleted(client: httpx.AsyncClient) -> None:
    path = await new_cart(client, p2=3)
    added = await client.post(f"{path}/items", json={"product_id": 2, "quantity": 2})
    assert added.status_code == 200
    assert (await client.put(f"{path}/items/1", json={"quantity": 1})).status_code == 200
    assert (await client.get(path)).json() == {
        "id": path.removeprefix("/carts/"),
        "items": [
            {"product_id": 1, "name": "thing 1", "price_minor": 100, "quantity": 1, "total_minor": 100},
            {"product_id": 2, "name": "thing 2", "price_minor": 200, "quantity": 5, "total_minor": 1000},
        ],
        "total_minor": 1100,
        "currency": "EUR",
        "status": "open",
    }
    assert [(await client.delete(f"{path}/items/1")).status_code for _ in range(2)] == [204, 204]
    assert [item["product_id"] for item in (await client.get(path)).json()["items"]] == [2]
    assert [(await client.delete(path)).status_code for _ in range(2)] == [204, 204]
    assert problem(await client.get(path)) == (404, "unknown-cart")


async def test_what_is_added_twice_with_one_key_is_added_once(client: httpx.AsyncClient) -> None:
    path, other = await new_cart(client), await new_cart(client)
    body = {"product_id": 1, "quantity": 2}
    answers = [await client.post(f"{path}/items", json=body, headers=key("k")) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert (await client.get(path)).json()["total_minor"] == 200
    assert (await client.post(f"{path}/items", json=body | {"quantity": 3}, headers=key("k"))).status_code == 422
    elsewhere = await client.post(f"{other}/items", json=body, headers=key("k"))
    assert elsewhere.json()["id"] == other.removeprefix("/carts/")


async def test_a_cart_shows_while_product_service_is_down(client: httpx.AsyncClient, shop: ProductServiceModel) -> None:
    path = await new_cart(client, p1=1)
    shop.away = True
    asked = len(shop.asked)
    assert (await client.get(path)).json()["items"][0]["name"] == "thing 1"
    assert (await client.put(f"{path}/items/1", json={"quantity": 9})).json()["total_minor"] == 900
    assert problem(await client.put(f"{path}/items/2", json={"quantity": 1})) == (503, "product-service-away")
    assert len(shop.asked) == asked


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("items/9", {"quantity": 1}, (404, "unknown-product")),
        ("items/1", {"quantity": 0}, (422, "about:blank")),
        ("items/1", {"quantity": 1001}, (422, "about:blank")),
        ("items/1", {"quantity": "1"}, (422, "about:blank")),
        ("items/1", {"quantity": 1, "price_minor": 1}, (422, "about:blank")),
        ("items/0", {"quantity": 1}, (422, "about:blank")),
        ("items/2147483648", {"quantity": 1}, (422, "about:blank")),
    ],
)
async def test_what_a_cart_does_not_take_is_said(
    client: httpx.AsyncClient, path: str, body: object, expected: tuple[int, str]
) -> None:
    assert problem(await client.put(f"{await new_cart(client)}/{path}", json=body)) == expected


async def test_a_cart_takes_a_thousand_of_a_product(client: httpx.AsyncClient) -> None:
    path = await new_cart(client, p1=999)
    added = [await client.post(f"{path}/items", json={"product_id": 1, "quantity": 1}) for _ in range(2)]
    assert added[0].status_code == 200
    assert problem(added[1]) == (409, "too-many")


async def test_a_cart_of_a_user_is_no_one_elses(client: httpx.AsyncClient, login: Login) -> None:
    path = await new_cart(client, login(ANN), p1=1)
    for headers in (None, login(BOB)):
        assert problem(await client.get(path, headers=headers)) == (404, "unknown-cart")
        assert problem(await client.delete(path, headers=headers)) == (404, "unknown-cart")
        put = await client.put(f"{path}/items/1", json={"quantity": 1}, headers=headers)
        assert problem(put) == (404, "unknown-cart")
    bought = await client.post(f"{path}/checkout", json=SHIP, headers=login(BOB) | key("k"))
    assert problem(bought) == (404, "unknown-cart")
    assert (await client.get(path, headers=login(ANN))).status_code == 200


async def test_a_checkout_needs_a_user_a_key_and_something_in_the_cart(client: httpx.AsyncClient, login: Login) -> None:
    path = f"{await new_cart(client)}/checkout"
    anonymous = await client.post(path, json=SHIP, headers=key("k"))
    assert problem(anonymous) == (401, "about:blank")
    assert anonymous.headers["www-authenticate"] == "Bearer"
    assert problem(await client.post(path, json=SHIP, headers=login(ANN))) == (422, "about:blank")
    assert problem(await client.post(path, json=SHIP, headers=login(ANN) | key("k"))) == (422, "empty-cart")
    assert (await client.get("/orders")).status_code == 401
    nowhere = await client.post(f"/carts/{uuid.uuid4()}/checkout", json=SHIP, headers=login(ANN) | key("k"))
    assert problem(nowhere) == (404, "unknown-cart")
    made_up = {"Authorization": "Bearer made.up.token"}
    assert (await client.post("/carts", headers=made_up)).status_code == 401


async def test_a_cart_is_bought_once(client: httpx.AsyncClient, login: Login, shop: ProductServiceModel) -> None:
    path = await new_cart(client, p1=2, p2=1)
    bought = [await client.post(f"{path}/checkout", json=SHIP, headers=login(ANN) | key("k")) for _ in range(2)]
    assert [answer.status_code for answer in bought] == [201, 201]
    order = bought[0].json()
    assert bought[1].json() == order
    assert (order["status"], order["total_minor"], order["ship_to"]) == ("paid", 400, "1 Sea Street")
    assert [line["quantity"] for line in order["lines"]] == [2, 1]
    assert shop.reserved == {order["id"]: {1: 2, 2: 1}}

    again = await client.post(f"{path}/checkout", json=SHIP, headers=login(ANN) | key("other"))
    assert problem(again) == (409, "checked-out")
    reused = await client.post(f"{path}/checkout", json={"ship_to": "elsewhere"}, headers=login(ANN) | key("k"))
    assert problem(reused) == (422, "key-reused")
    assert problem(await client.put(f"{path}/items/1", json={"quantity": 1})) == (409, "checked-out")
    assert (await client.get(path)).json()["status"] == "checked_out"

    assert (await client.get("/orders", headers=login(ANN))).json() == [order]
    assert (await client.get(f"/orders/{order['id']}", headers=login(ANN))).json() == order
    assert (await client.get("/orders", headers=login(BOB))).json() == []
    assert problem(await client.get(f"/orders/{order['id']}", headers=login(BOB))) == (404, "unknown-order")
    assert (await client.delete(path)).status_code == 204
    assert (await client.get("/orders", headers=login(ANN))).json() == [order]
    assert (await client.post(f"{path}/checkout", json=SHIP, headers=login(ANN) | key("k"))).json() == order


async def test_what_cannot_be_bought_leaves_the_cart_open(
    client: httpx.AsyncClient, login: Login, shop: ProductServiceModel
) -> None:
    path = await new_cart(client, p1=1, p3=2)
    headers = login(ANN) | key("k")
    short = await client.post(f"{path}/checkout", json=SHIP, headers=headers)
    assert problem(short) == (409, "out-of-stock")
    assert short.json()["products"] == [{"product_id": 3}]
    assert (await client.put(f"{path}/items/3", json={"quantity": 1})).json()["status"] == "open"
    shop.away = True
    away = await client.post(f"{path}/checkout", json=SHIP, headers=headers)
    assert problem(away) == (503, "product-service-away")
    assert away.headers["retry-after"] == "1"
    shop.away = False
    assert (await client.get("/orders", headers=login(ANN))).json() == []
    assert (await client.post(f"{path}/checkout", json=SHIP, headers=headers)).status_code == 201
    shop.adds_up()


async def test_it_tells_that_it_is_well_and_answers_what_is_not_there_with_a_problem(
    client: httpx.AsyncClient,
) -> None:
    assert [(await client.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    assert problem(await client.get("/nothing")) == (404, "about:blank")
    assert problem(await client.patch("/carts")) == (405, "about:blank")
    assert problem(await client.get("/carts/1")) == (422, "about:blank")
    surrogate = b'{"ship_to": "\\ud800"}'
    odd = await client.put(f"/carts/{uuid.uuid4()}/items/1", content=surrogate)
    assert problem(odd) == (422, "about:blank")
