"""Products are found, added and changed, and every change that others copy is told."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from conftest import Service, bearer, running

pytestmark = pytest.mark.anyio
STAFF = bearer("staff")


async def test_a_product_that_is_added_is_shown_and_told(service: Service) -> None:
    added = await service.add("Net", description="Fine.", price_minor=1250, stock=3)
    told = {"id": 1, "name": "Net", "price_minor": 1250, "currency": "EUR", "version": 1}
    assert added == told | {"description": "Fine.", "stock": 3}
    assert (await service.http.get("/products/1")).json() == added
    assert (await service.http.get("/products")).json() == {"items": [added], "total": 1, "page": 1, "size": 20}
    assert await service.told() == [("product.changed", told)]


async def test_pages_have_the_newest_first_and_end(service: Service) -> None:
    for number in range(5):
        await service.add(f"Net {number}")
    pages = [(await service.http.get("/products", params={"page": page, "size": 2})).json() for page in (1, 2, 3, 4)]
    assert [[product["id"] for product in page["items"]] for page in pages] == [[5, 4], [3, 2], [1], []]
    assert [page["total"] for page in pages] == [5] * 4


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", {"Red NET", "Éclair", "100 % wool", "snake_case", "back\\slash"}),
        ("net", {"Red NET"}),
        ("NET red", {"Red NET"}),
        ("net blue", set()),
        ("éCLAIR", {"Éclair"}),
        ("e\u0301clair", {"Éclair"}),  # the accent as a letter of its own
        ("strasse", {"Éclair"}),
        ("%", {"100 % wool"}),
        ("_", {"snake_case"}),
        ("e_c", {"snake_case"}),
        ("\\", {"back\\slash"}),
        ("\\%", set()),
    ],
)
async def test_a_search_finds_words_in_any_case_and_means_its_characters(
    service: Service, search: str, found: set[str]
) -> None:
    for name in ("Red NET", "100 % wool", "snake_case", "back\\slash"):
        await service.add(name)
    await service.add("Éclair", description="From our Straße")
    page = (await service.http.get("/products", params={"search": search})).json()
    assert {product["name"] for product in page["items"]} == found
    assert page["total"] == len(found)


async def test_a_change_makes_a_version_and_is_told_and_found(service: Service) -> None:
    await service.add("Net", stock=2)
    changed = (await service.http.patch("/products/1", json={"name": "Rod", "price_minor": 700}, headers=STAFF)).json()
    assert (changed["name"], changed["price_minor"], changed["stock"], changed["version"]) == ("Rod", 700, 2, 2)
    told = {"id": 1, "name": "Rod", "price_minor": 700, "currency": "EUR", "version": 2}
    assert (await service.told())[1:] == [("product.changed", told)]
    assert (await service.http.get("/products", params={"search": "rod"})).json()["total"] == 1
    assert (await service.http.get("/products", params={"search": "net"})).json()["total"] == 0


@pytest.mark.parametrize("change", [{}, {"name": "Net"}, {"name": None, "price_minor": 500}])
async def test_a_change_that_changes_nothing_is_not_told(service: Service, change: dict[str, Any]) -> None:
    added = await service.add("Net")
    assert (await service.http.patch("/products/1", json=change, headers=STAFF)).json() == added
    assert len(await service.told()) == 1


async def test_stock_changes_without_a_version(service: Service) -> None:
    added = await service.add("Net")
    changed = await service.http.put("/products/1/stock", json={"stock": 9}, headers=STAFF)
    assert changed.json() == added | {"stock": 9}
    assert len(await service.told()) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Basic eDp4"}, 401),
        ({"Authorization": "Bearer x"}, 401),
        (bearer("staff", key=Ed25519PrivateKey.generate()), 401),
        (bearer("staff", expires_in_s=-60), 401),
        (bearer(), 403),
    ],
)
async def test_only_staff_changes_products(service: Service, headers: dict[str, str], status: int) -> None:
    added = await service.add()
    for method, path, body in (
        ("POST", "/products", {"name": "Rod", "price_minor": 1}),
        ("PATCH", "/products/1", {"name": "Rod"}),
        ("PUT", "/products/1/stock", {"stock": 1}),
    ):
        answer = await service.http.request(method, path, json=body, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (await service.http.get("/products")).json()["items"] == [added]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", '""'), ("name", '"\\u0000"'), ("name", '"\\ud800"'), ("name", f'"{"x" * 201}"'), ("name", "1"),
        ("description", '"\\u0000"'), ("price_minor", "-1"), ("price_minor", "1.5"), ("price_minor", '"1"'),
        ("price_minor", "1e99"), ("stock", "-1"), ("stock", "2147483648"), ("colour", '"red"'),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_refused(service: Service, field: str, value: str) -> None:
    fields = {"name": '"Net"', "price_minor": "1"} | {field: value}
    body = ", ".join(f'"{name}": {written}' for name, written in fields.items())
    headers = STAFF | {"Content-Type": "application/json"}
    answer = await service.http.post("/products", content=f"{{{body}}}", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["errors"][0]["where"] == ["body", field]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/products/1", 404),
        ("PATCH", "/products/1", 404),
        ("PUT", "/products/1/stock", 404),
        ("GET", "/products/0", 422),
        ("GET", "/products/2147483648", 422),
        ("GET", "/products?page=0", 422),
        ("GET", "/products?size=101", 422),
        ("GET", "/products?search=%00", 422),
        ("GET", "/products?colour=red", 422),
        ("DELETE", "/products", 405),
        ("GET", "/nothing", 404),
    ],
)
async def test_what_is_not_there_is_said_as_a_problem(service: Service, method: str, path: str, status: int) -> None:
    answer = await service.http.request(method, path, json={"stock": 1} if method == "PUT" else {}, headers=STAFF)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_it_tells_that_it_is_well(service: Service) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await service.http.get(path)).status_code == 200


async def test_without_its_database_it_starts_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.delenv("NATS_URL", raising=False)
    async with running() as service:
        answer = await service.http.get("/products")
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.json()["detail"] == "the database does not answer"
        assert (await service.http.get("/readyz")).status_code == 503
        assert (await service.http.get("/healthz")).status_code == 200
