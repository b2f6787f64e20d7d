"""The shop's data: in step between services, whatever is killed. On the real PostgreSQL and NATS, by the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from shoal.engines.local.resources import programs
from tests.support.plane import Plane, plane

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

PRODUCTS = 10
CHANGES = 1000
CHECKOUTS = 500
AT_ONCE = 8
SERVICES = ("user-service", "product-service", "cart-service")
Example = Callable[[str], tuple[Path, dict[int, int]]]


BAD_MIGRATION = """
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade():
    op.execute("ALTER TABLE products ADD COLUMN colour text")
    op.execute("UPDATE products SET price_minor = price_minor / 0")
"""


@dataclass
class Shop:
    shoal: Plane
    url: str
    """Of the gateway."""
    staff: dict[str, str] = field(default_factory=dict)
    """Headers."""
    client: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=20.0, trust_env=False))

    async def ask(self, method: str, path: str, expect: int, **more: Any) -> Any:
        answer = await self.client.request(method, self.url + path, **more)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def definite(self, method: str, path: str, *, among: tuple[int, ...], **more: Any) -> httpx.Response:
        """Asked until the answer is one of `among`: while something is away there are others."""
        async with asyncio.timeout(90):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await self.client.request(method, self.url + path, **more)
                    if answer.status_code in among:
                        return answer
                    assert answer.status_code in (502, 503, 504, 500), f"{method} {path}: {answer.text}"
                await asyncio.sleep(0.2)

    async def customer(self, name: str) -> dict[str, str]:
        who = {"email": f"{name}@example.com", "password": "correct horse"}
        await self.ask("POST", "/register", 201, json=who | {"name": name})
        return await self.log_in(name)

    async def log_in(self, name: str) -> dict[str, str]:
        who = {"email": f"{name}@example.com", "password": "correct horse"}
        return {"Authorization": f"Bearer {(await self.ask('POST', '/login', 200, json=who))['token']}"}

    async def product(self, name: str, *, stock: int, price: int = 500) -> int:
        new = {"name": name, "description": "", "price_minor": price, "stock": stock}
        return int((await self.ask("POST", "/products", 201, json=new, headers=self.staff))["id"])

    async def filled_cart(self, headers: dict[str, str], quantities: dict[int, int]) -> str:
        cart = (await self.definite("POST", "/carts", among=(201,), headers=headers)).json()["id"]
        for product, quantity in quantities.items():
            path = f"/carts/{cart}/items/{product}"
            await self.definite("PUT", path, among=(200, 201), headers=headers, json={"quantity": quantity})
        return str(cart)

    async def check_out(self, cart: str, headers: dict[str, str], key: str | None = None) -> httpx.Response:
        given = headers | {"Idempotency-Key": key or str(uuid.uuid4())}
        return await self.definite(
            "POST", f"/carts/{cart}/checkout", among=(201, 409), headers=given, json={"ship_to": "1 Quay"}
        )

    def rows(self, service: str, statement: str) -> list[list[Any]]:
        """As the service sees its database."""
        variables = self.variables(service)
        if file := self.sqlite(variables):
            with contextlib.closing(sqlite3.connect(file)) as connection:
                return [list(row) for row in connection.execute(statement)]
        env = {key: value for key, value in variables.items() if key.startswith("PG")}
        line = [str(programs.postgres_folder() / "psql"), "-X", "-w", "-At", "-c"]
        query = f"SELECT coalesce(json_agg(row), '[]') FROM ({statement}) row"
        done = subprocess.run([*line, query], env=env, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
        return [list(row.values()) for row in json.loads(done.stdout)]

    def sqlite(self, variables: dict[str, str]) -> str:
        """The path of its file; empty: it is PostgreSQL."""
        kind, _, path = variables["DATABASE_URL"].partition(":///")
        return path if kind == "sqlite" else ""

    def variables(self, service: str) -> dict[str, str]:
        pid = next(pid for name, pid in self.shoal.pids().items() if name.startswith(f"{service}-r"))
        found = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return dict(entry.decode().split("=", 1) for entry in found if b"=" in entry)

    def count(self, service: str, table: str, condition: str = "true") -> int:
        return int(self.rows(service, f"SELECT count(*) FROM {table} WHERE {condition}")[0][0])

    async def eventually(self, look: Callable[[], bool], what: str) -> None:
        await asyncio.to_thread(self.shoal.eventually, look, what, within_s=90)

    async def settled(self) -> None:
        """All that is known anywhere is known everywhere."""

        def is_settled() -> bool:
            if any(self.count(service, "shoal_outbox") for service in SERVICES):
                return False
            if self.count("cart-service", "orders", "status in ('pending', 'cancelling')"):
                return False
            if self.count("product-service", "reservations", "status = 'reserved'"):
                return False
            here, there = (
                self.rows(service, f"SELECT id, name, price_minor, version FROM {table} ORDER BY id")
                for service, table in (("product-service", "products"), ("cart-service", "known_products"))
            )
            return here == there

        await self.eventually(is_settled, "all services agreeing")

    def dead_letters(self) -> str:
        line = ("exec", "cart-service", "--", "python", "-m", "shoal.sdk.dead", "list")
        return self.shoal.shoal(*line).stdout.strip()


@contextlib.contextmanager
def running(example: Example, **variables: str) -> Iterator[Shop]:
    folder, ports = example("shop")
    with plane(folder, environment=variables) as shoal:
        shoal.timeout_s = 240
        shoal.up()
        yield Shop(shoal, f"http://127.0.0.1:{ports[8088]}")


async def take(shop: Shop, *steps: Callable[[Shop], Awaitable[None]]) -> None:
    async with shop.client:
        await shop.customer("grace")
        grant = ("exec", "user-service", "--", "python", "-m", "users.grant", "grace@example.com", "staff")
        await asyncio.to_thread(shop.shoal.shoal, *grant)
        shop.staff = await shop.log_in("grace")
        for step in steps:
            print(f"\n=== {step.__name__}", flush=True)
            await step(shop)
        assert await asyncio.to_thread(shop.dead_letters) == "no dead letters"


def test_the_shops_data_stays_in_step(example: Example) -> None:
    with running(example) as shop:
        steps = (the_last_item_goes_to_one, a_key_charges_once, a_migration_that_fails_changes_nothing)
        asyncio.run(take(shop, *steps, carts_show_without_products, kills, forgotten))


def test_the_same_shop_keeps_its_data_in_sqlite_by_one_variable(example: Example) -> None:
    with running(example, SHOP_DATABASE="sqlite") as shop:
        assert "postgres-r1" not in shop.shoal.pids()
        asyncio.run(take(shop, the_last_item_goes_to_one, a_key_charges_once, forgotten))


async def a_migration_that_fails_changes_nothing(shop: Shop) -> None:
    """With alembic on PostgreSQL: three replicas of each service started, and one migration ran."""
    told = (await asyncio.to_thread(shop.shoal.shoal, "migrate", "status", "--json")).stdout
    runs = {one["service"]: one["runs"] for one in map(json.loads, told.splitlines())}
    assert {service: [run["outcome"] for run in ran] for service, ran in runs.items()} == {
        service: ["succeeded"] for service in SERVICES
    }
    versions = shop.shoal.folder / "product-service" / "migrations" / "versions"
    bad = versions / "0002_bad.py"
    bad.write_text(BAD_MIGRATION)
    before = dumped(shop, "product-service")
    deploy = asyncio.create_task(asyncio.to_thread(shop.shoal.shoal, "deploy", "product-service", check=False))
    answers = set()
    while not deploy.done():
        answers.add((await shop.client.get(f"{shop.url}/products")).status_code)
    failed = await deploy
    assert failed.returncode not in (0, 2)
    assert "the migration of product-service failed" in failed.stderr
    assert "division by zero" in failed.stderr
    assert answers == {200}
    assert dumped(shop, "product-service") == before
    bad.unlink()
    await asyncio.to_thread(shop.shoal.shoal, "deploy", "product-service")


async def the_last_item_goes_to_one(shop: Shop) -> None:
    net = await shop.product("the last net", stock=1)
    buyers = [await shop.customer(name) for name in ("ada", "bob")]
    carts = [await shop.filled_cart(buyer, {net: 1}) for buyer in buyers]
    answers = await asyncio.gather(*(shop.check_out(*pair) for pair in zip(carts, buyers, strict=True)))
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    [refused] = [answer for answer in answers if answer.status_code == 409]
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "out-of-stock"
    await shop.settled()
    assert shop.rows("product-service", f"SELECT stock FROM products WHERE id = {net}") == [[0]]
    # Who got none may buy something else with the same cart.
    loser = answers.index(refused)
    assert (await shop.ask("GET", f"/carts/{carts[loser]}", 200, headers=buyers[loser]))["status"] == "open"


async def a_key_charges_once(shop: Shop) -> None:
    net = await shop.product("a net", stock=10, price=700)
    buyer = await shop.log_in("ada")
    cart = await shop.filled_cart(buyer, {net: 2})
    answers = [await shop.check_out(cart, buyer, "k1") for _ in range(2)]
    answers += await asyncio.gather(*(shop.check_out(cart, buyer, "k1") for _ in range(4)))
    assert [answer.status_code for answer in answers] == [201] * 6
    [order] = {answer.json()["id"] for answer in answers}
    assert shop.count("cart-service", "payments", f"order_id = '{order}'") == 1
    assert shop.count("cart-service", "orders", f"cart_id = '{cart}'") == 1
    assert (await shop.check_out(cart, buyer, "k2")).status_code == 409
    await shop.settled()
    assert shop.rows("product-service", f"SELECT stock FROM products WHERE id = {net}") == [[8]]


async def carts_show_without_products(shop: Shop) -> None:
    rope = await shop.product("a rope", stock=10, price=900)
    await shop.settled()
    buyer = await shop.log_in("ada")
    cart = await shop.filled_cart(buyer, {rope: 3})
    await asyncio.to_thread(shop.shoal.shoal, "scale", "product-service", "0")
    shown = await shop.ask("GET", f"/carts/{cart}", 200, headers=buyer)
    assert [(item["name"], item["total_minor"]) for item in shown["items"]] == [("a rope", 2700)]
    added = await shop.ask("PUT", f"/carts/{cart}/items/{rope}", 200, headers=buyer, json={"quantity": 1})
    assert added["total_minor"] == 900
    await asyncio.to_thread(shop.shoal.shoal, "scale", "product-service", "3")
    renamed = {"name": "a longer rope"}
    await shop.definite("PATCH", f"/products/{rope}", among=(200,), headers=shop.staff, json=renamed)
    await shop.settled()
    shown = await shop.ask("GET", f"/carts/{cart}", 200, headers=buyer)
    assert [item["name"] for item in shown["items"]] == ["a longer rope"]
    assert (await shop.check_out(cart, buyer)).status_code == 201


async def kills(shop: Shop) -> None:
    """NATS, PostgreSQL, and each replica that may be the relay, amid changes and checkouts."""
    stock = CHECKOUTS * 3 // PRODUCTS  # not enough for all
    products = [await shop.product(f"thing {number}", stock=stock) for number in range(PRODUCTS)]
    buyer = await shop.customer("carol")
    done = {"changes": 0, "checkouts": 0}
    sold: dict[int, int] = dict.fromkeys(products, 0)
    chance = random.Random(7)
    victims = ["nats-r1", "product-service-r", "postgres-r1", "cart-service-r", "nats-r1"]
    moments = [asyncio.Event() for _ in victims]

    async def change(number: int) -> None:
        path = f"/products/{chance.choice(products)}"
        await shop.definite("PATCH", path, among=(200,), headers=shop.staff, json={"price_minor": 100 + number})
        done["changes"] += 1

    async def buy(number: int) -> None:
        quantities = {product: chance.randint(1, 3) for product in chance.sample(products, 2)}
        answer = await shop.check_out(await shop.filled_cart(buyer, quantities), buyer)
        done["checkouts"] += 1
        for moment in moments[: done["checkouts"] * (len(victims) + 2) // CHECKOUTS]:
            moment.set()
        if answer.status_code == 201:
            for product, quantity in quantities.items():
                sold[product] += quantity

    async def kill() -> None:
        for moment, victim in zip(moments, victims, strict=True):
            await moment.wait()
            pids = await asyncio.to_thread(shop.shoal.pids)
            for name in sorted(name for name in pids if name.startswith(victim)):
                seen = (await asyncio.to_thread(shop.shoal.status))["sequence"]
                print(f"kill {name} at {done}", flush=True)
                os.kill(pids[name], signal.SIGKILL)
                await asyncio.to_thread(shop.shoal.wait_for_event, "ReplicaReady", name, after=seen, within_s=60)

    await asyncio.gather(in_turn(change, CHANGES), in_turn(buy, CHECKOUTS), kill())
    await shop.settled()

    # Stock adds up, with what was answered and with what is written.
    left = dict(shop.rows("product-service", "SELECT id, stock FROM products WHERE name LIKE 'thing %'"))
    assert {product: stock - left[product] for product in products} == sold
    lines = "SELECT product_id, sum(quantity) FROM reservation_lines JOIN reservations USING (order_id)"
    written = dict(shop.rows("product-service", f"{lines} WHERE status = 'sold' GROUP BY product_id"))
    assert {product: written[product] for product in products} == sold
    assert min(left.values()) >= 0
    # Charged once for each order that is paid, and for no other.
    paid = {row[0] for row in shop.rows("cart-service", "SELECT id FROM orders WHERE status = 'paid'")}
    charged = [row[0] for row in shop.rows("cart-service", "SELECT order_id FROM payments")]
    assert sorted(charged) == sorted(paid)
    bought = {row[0] for row in shop.rows("product-service", "SELECT order_id FROM reservations WHERE status = 'sold'")}
    assert bought == paid
    # Each event took effect once: a product's version counts its changes, and each is an event.
    [[made]] = shop.rows("product-service", "SELECT sum(version) FROM products")
    assert made >= CHANGES
    assert shop.count("cart-service", "shoal_inbox") == made
    assert shop.count("product-service", "shoal_inbox") == len(paid)


async def in_turn(work: Callable[[int], Awaitable[None]], times: int) -> None:
    """`AT_ONCE` at a time."""
    numbers = iter(range(times))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def forgotten(shop: Shop) -> None:
    """An account that is deleted leaves nothing of the person anywhere, and the sums stay."""
    net = await shop.product("a green net", stock=10)
    buyer = await shop.customer("mallory-quick")
    cart = await shop.filled_cart(buyer, {net: 1})
    order = (await shop.check_out(cart, buyer)).json()["id"]
    await shop.filled_cart(buyer, {net: 2})
    [[user]] = shop.rows("user-service", "SELECT id FROM users WHERE email = 'mallory-quick@example.com'")
    assert shop.count("cart-service", "orders", f"user_id = {user}") == 1
    await shop.ask("DELETE", "/users/me", 204, headers=buyer)
    await shop.ask("GET", "/users/me", 401, headers=buyer)
    await shop.eventually(lambda: not shop.count("cart-service", "orders", f"user_id = {user}"), "being forgotten")
    await shop.settled()
    for service in SERVICES:
        assert "mallory" not in dumped(shop, service)
    assert not shop.count("cart-service", "carts", f"user_id = {user}")
    assert shop.rows("cart-service", f"SELECT status, user_id, ship_to FROM orders WHERE id = '{order}'") == [
        ["paid", None, None]
    ]


def dumped(shop: Shop, service: str) -> str:
    """All that is in its database."""
    if file := shop.sqlite(shop.variables(service)):
        with contextlib.closing(sqlite3.connect(file)) as connection:
            return "\n".join(connection.iterdump())
    env = {key: value for key, value in shop.variables(service).items() if key.startswith("PG")}
    line = [str(programs.postgres_folder() / "pg_dump"), "-w", "--data-only"]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=True, timeout=60)
    # It says `\\restrict` and a word by chance.
    return "\n".join(row for row in done.stdout.splitlines() if not row.startswith(("\\restrict", "\\unrestrict")))
