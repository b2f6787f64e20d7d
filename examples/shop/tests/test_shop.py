"""The three services without Shoal: each in this process, cart-service's calls answered by a product-service here.

Run with `pytest examples/shop/tests` in an environment with the shop's requirements and pytest.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
fastapi_testclient = pytest.importorskip("fastapi.testclient")
TestClient = fastapi_testclient.TestClient

from shop import carts, products, users  # noqa: E402
from shop.database import Database  # noqa: E402
from shop.secrets import hash_password, password_matches, sign, signing_key, verify  # noqa: E402

KEY = b"k" * 32


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHOAL_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def user_service() -> Iterator[TestClient]:
    with TestClient(users.app) as client:
        yield client


@pytest.fixture
def product_service() -> Iterator[TestClient]:
    with TestClient(products.app) as client:
        yield client


@pytest.fixture
def cart_service(product_service: TestClient) -> Iterator[TestClient]:
    with TestClient(carts.app) as client:
        carts.app.state.products.close()
        carts.app.state.products = product_service
        yield client


ALICE = {"name": "alice", "password": "correct horse"}


def test_who_registers_can_log_in_and_is_known_by_the_token(user_service: TestClient) -> None:
    assert user_service.post("/register", json=ALICE).status_code == 201
    token = user_service.post("/login", json=ALICE).json()["token"]
    me = user_service.get("/users/me", headers={"Authorization": f"Bearer {token}"})
    assert me.json() == {"id": 1, "name": "alice"}


@pytest.mark.parametrize(
    ("credentials", "status"),
    [
        ({"name": "alice", "password": "wrong horse"}, 401),
        ({"name": "bob", "password": "correct horse"}, 401),
        ({"name": "alice"}, 422),
    ],
)
def test_a_wrong_login_is_refused(user_service: TestClient, credentials: dict[str, str], status: int) -> None:
    user_service.post("/register", json=ALICE)
    assert user_service.post("/login", json=credentials).status_code == status


def test_a_name_is_given_once(user_service: TestClient) -> None:
    assert [user_service.post("/register", json=ALICE).status_code for _ in range(2)] == [201, 409]


@pytest.mark.parametrize("token", ["", "x", "a.b", "é.b", "a.é"])
def test_a_made_up_token_is_refused(user_service: TestClient, token: str) -> None:
    header = f"Bearer {token}".encode()
    assert user_service.get("/users/me", headers={"Authorization": header}).status_code == 401


def test_products_are_listed_newest_first(product_service: TestClient) -> None:
    for name in ("net", "rod"):
        assert product_service.post("/products", json={"name": name, "price_cents": 500}).status_code == 201
    assert [product["name"] for product in product_service.get("/products").json()] == ["rod", "net"]
    assert product_service.get("/products/1").json() == {"id": 1, "name": "net", "price_cents": 500}
    assert product_service.get("/products/9").status_code == 404


def test_a_cart_knows_what_its_product_costs_and_can_be_deleted(
    product_service: TestClient, cart_service: TestClient
) -> None:
    product_service.post("/products", json={"name": "net", "price_cents": 500})
    cart = cart_service.post("/carts", json={"product_id": 1, "quantity": 3}).json()
    assert cart == {"id": 1, "product_id": 1, "name": "net", "quantity": 3, "total_cents": 1500}
    assert cart_service.get("/carts/1").json() == cart
    assert [cart_service.delete("/carts/1").status_code for _ in range(2)] == [204, 204]
    assert cart_service.get("/carts/1").status_code == 404
    assert cart_service.delete("/carts/2").status_code == 404


def test_a_cart_of_an_unknown_product_is_refused(cart_service: TestClient) -> None:
    assert cart_service.post("/carts", json={"product_id": 7}).status_code == 404


def test_a_cart_posted_twice_with_one_key_is_made_once(product_service: TestClient, cart_service: TestClient) -> None:
    product_service.post("/products", json={"name": "net", "price_cents": 500})
    headers = {"Idempotency-Key": "k1"}
    answers = [cart_service.post("/carts", json={"product_id": 1}, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert cart_service.get("/carts/2").status_code == 404
    assert cart_service.post("/carts", json={"product_id": 1, "quantity": 2}, headers=headers).status_code == 422


def test_every_service_tells_that_it_is_well(
    user_service: TestClient, product_service: TestClient, cart_service: TestClient
) -> None:
    for service in (user_service, product_service, cart_service):
        assert service.get("/healthz").status_code == 200


def test_passwords_match_only_themselves() -> None:
    stored = hash_password("correct horse")
    assert password_matches("correct horse", stored)
    assert not password_matches("wrong horse", stored)
    assert stored != hash_password("correct horse")


@pytest.mark.parametrize(("now", "key", "expected"), [(99.0, KEY, "a:b"), (100.0, KEY, None), (99.0, b"other", None)])
def test_a_token_holds_until_it_expires_and_under_its_own_key(now: float, key: bytes, expected: str | None) -> None:
    assert verify(sign("a:b", KEY, expires_at=100.0), key, now=now) == expected


def test_replicas_that_start_at_once_agree_on_the_key_and_the_database(data: Path) -> None:
    start = threading.Barrier(3)

    def replica(number: int) -> bytes:
        start.wait(timeout=10)
        database = Database(data / "x.db", "CREATE TABLE IF NOT EXISTS t (n INTEGER);")
        with database.write() as connection:
            connection.execute("INSERT INTO t VALUES (?)", (number,))
        database.close()
        return signing_key(data / "token.key")

    with ThreadPoolExecutor(3) as pool:
        keys = set(pool.map(replica, range(3)))
    assert len(keys) == 1
    database = Database(data / "x.db", "")
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone()[0] == 3
    database.close()
    assert not list(data.glob("token.key.*"))
