"""Stock is kept for an order once, all or nothing, and given back once."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from products.reservations import UnsellableError

from conftest import Service, bearer

pytestmark = pytest.mark.anyio
ORDER, OTHER = "6d7c1c2c-5ad8-4e9a-9b35-0f2f3b9d0c11", "0c9a7c0e-8a43-4a39-8f2e-7d3f6c1f2a22"


@pytest.fixture
async def shop(service: Service) -> Service:
    """Product 1, of which there are 5, and product 2, of which there is 1."""
    await service.add("Net", stock=5)
    await service.add("Rod", stock=1)
    return service


async def test_what_is_reserved_twice_by_one_order_is_taken_once(shop: Service) -> None:
    first, second = [await shop.reserve(ORDER, {2: 1, 1: 3}) for _ in range(2)]
    assert (first.status_code, second.status_code) == (201, 200)
    lines = [{"product_id": 1, "quantity": 3}, {"product_id": 2, "quantity": 1}]
    assert first.json() == second.json() == {"order_id": ORDER, "status": "reserved", "lines": lines}
    assert (await shop.stock(1), await shop.stock(2)) == (2, 0)


async def test_two_lines_of_one_product_add_up(shop: Service) -> None:
    line = {"product_id": 1, "quantity": 2}
    answer = await shop.http.put(f"/reservations/{ORDER}", json={"lines": [line, line]})
    assert answer.json()["lines"] == [{"product_id": 1, "quantity": 4}]
    assert await shop.stock(1) == 1


async def test_an_order_gets_all_or_nothing_and_hears_what_is_missing(shop: Service) -> None:
    answer = await shop.reserve(ORDER, {1: 3, 2: 2, 9: 1})
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert answer.json() == {
        "type": "out-of-stock",
        "title": "Out of stock",
        "status": 409,
        "detail": "2 of 'Rod' are wanted, 1 left; there is no product 9",
        "products": [{"product_id": 2, "wanted": 2, "available": 1}, {"product_id": 9, "wanted": 1, "available": 0}],
    }
    assert (await shop.stock(1), await shop.stock(2)) == (5, 1)
    # It may come again when there is more.
    await shop.http.put("/products/2/stock", json={"stock": 2}, headers=bearer("staff"))
    assert (await shop.reserve(ORDER, {1: 3, 2: 2})).status_code == 201


async def test_an_order_that_changes_its_mind_is_refused(shop: Service) -> None:
    await shop.reserve(ORDER, {1: 3})
    answer = await shop.reserve(ORDER, {1: 4})
    assert (answer.status_code, answer.json()["type"]) == (409, "reservation-differs")
    assert await shop.stock(1) == 2


async def test_a_release_gives_back_once_and_for_good(shop: Service) -> None:
    await shop.reserve(ORDER, {1: 3, 2: 1})
    assert [(await shop.release(ORDER)).status_code for _ in range(2)] == [204, 204]
    assert (await shop.stock(1), await shop.stock(2)) == (5, 1)
    answer = await shop.reserve(ORDER, {1: 3, 2: 1})
    assert (answer.status_code, answer.json()["type"]) == (409, "reservation-released")
    assert (await shop.stock(1), await shop.stock(2)) == (5, 1)


async def test_a_reservation_that_comes_after_its_release_is_refused(shop: Service) -> None:
    assert (await shop.release(ORDER)).status_code == 204
    assert (await shop.reserve(ORDER, {1: 1})).json()["type"] == "reservation-released"
    assert await shop.stock(1) == 5


async def test_what_is_paid_is_not_given_back(shop: Service) -> None:
    await shop.reserve(ORDER, {1: 3})
    for _ in range(2):
        await shop.paid(ORDER)
    assert (await shop.release(ORDER)).status_code == 204
    again = await shop.reserve(ORDER, {1: 3})
    assert (again.status_code, again.json()["status"]) == (200, "sold")
    assert await shop.stock(1) == 2


async def test_what_was_not_kept_cannot_be_sold(shop: Service) -> None:
    """It becomes a dead letter, for somebody to look at."""
    await shop.release(ORDER)
    with pytest.raises(UnsellableError, match="released"):
        await shop.paid(ORDER)
    with pytest.raises(UnsellableError, match="never reserved"):
        await shop.paid(OTHER)


async def test_of_orders_that_want_the_last_one_at_once_one_gets_it(shop: Service) -> None:
    answers = await asyncio.gather(*(shop.reserve(str(uuid.UUID(int=number)), {2: 1, 1: 1}) for number in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert (await shop.stock(1), await shop.stock(2)) == (4, 0)


@pytest.mark.parametrize(
    "body", [{}, {"lines": []}, {"lines": [{"product_id": 1, "quantity": 0}]}, {"lines": [{"product_id": 1}], "x": 1}]
)
async def test_what_is_no_order_is_refused(shop: Service, body: dict[str, object]) -> None:
    assert (await shop.http.put(f"/reservations/{ORDER}", json=body)).status_code == 422
    assert (await shop.http.delete("/reservations/1")).status_code == 422
