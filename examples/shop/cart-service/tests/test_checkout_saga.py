"""The saga, with a process that dies or an effect that fails at every point of it, and with others at work meanwhile.

An effect is a statement, a commit, a request: before it, and where it can matter after it too.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from carts import catalogue
from carts.checkout import PENDING_S_MAX, Checkout, Wish
from carts.identity import User
from carts.models import Cart, CartItem, Order, Payment, outbox
from carts.product_service import Product, ProductService
from product_service_model import ProductServiceModel
from sqlalchemy import event, select

from shoal.sdk import database
from shoal.sdk.database import Transactions
from shoal.sdk.events import Event
from shoal.sdk.problems import Problem

pytestmark = pytest.mark.anyio
ANN = User(id=1, name="Ann", roles=frozenset())
BOB = User(id=2, name="Bob", roles=frozenset())


class Death(BaseException):
    """kill -9: nothing is caught, nothing is done afterwards."""


class Fate:
    """At the `at`th effect something happens: death, or one failure that the process survives."""

    def __init__(self, at: int = 0, failure: type[BaseException] = Death) -> None:
        self._at, self._failure, self.met, self._count = at, failure, False, 0

    def effect(self, *_: object) -> None:
        self._count += 1
        if (self.met and self._failure is Death) or self._count == self._at:
            self.met = True
            raise self._failure("fate")

    async def request(self, _: httpx.Request) -> None:
        self.effect()


class World:
    def __init__(self, shop: ProductServiceModel) -> None:
        self.shop, self.now = shop, 1000.0
        self.engine = database.engine()
        self.sessions = Transactions(self.engine)
        self.checkout = Checkout(self.sessions, self.products(), clock=lambda: self.now)
        self._ids = itertools.count(1)

    def products(self) -> ProductService:
        return ProductService(transport=self.shop.transport())

    @asynccontextmanager
    async def process(self, fate: Fate) -> AsyncIterator[Checkout]:
        engine = database.engine()
        event.listen(engine.sync_engine, "before_cursor_execute", fate.effect)
        really_commit = engine.sync_engine.dialect.do_commit

        def commit(connection: object) -> None:
            fate.effect()
            really_commit(connection)
            fate.effect()

        engine.sync_engine.dialect.do_commit = commit
        self.shop.before = self.shop.after = fate.request
        try:
            yield Checkout(Transactions(engine), self.products(), clock=lambda: self.now)
        finally:
            self.shop.at_peace()
            await engine.dispose()

    async def cart(self, *product_ids: int) -> str:
        cart_id = f"cart-{next(self._ids)}"
        async with self.sessions.begin() as session:
            session.add(Cart(id=cart_id, status="open", created_at=self.now))
            for id_ in product_ids:
                known = Product(id=id_, name=f"thing {id_}", price_minor=100 * id_, currency="EUR", version=1)
                await catalogue.remember(session, known)
                await session.flush()
                session.add(CartItem(cart_id=cart_id, product_id=id_, quantity=1))
        return cart_id

    async def later(self) -> None:
        self.now += PENDING_S_MAX + 1
        await self.checkout.sweep()

    async def settled(self, cart_id: str) -> bool:
        """Whether the cart is bought; and all that must hold when nothing is under way."""
        async with self.sessions.begin() as session:
            orders = list(await session.scalars(select(Order)))
            paid = {order.id for order in orders if order.status == "paid"}
            payments = list(await session.scalars(select(Payment)))
            told = [Event.from_json(row) for row in await session.scalars(select(outbox.table.c.event))]
            carts = list(await session.scalars(select(Cart)))
        assert {order.status for order in orders} <= {"paid", "cancelled"}
        assert sorted(payment.order_id for payment in payments) == sorted(paid)
        assert sorted(one.data["order_id"] for one in told) == sorted(paid)
        assert all(len(order.lines) for order in orders)
        bought = [order.cart_id for order in orders if order.status == "paid"]
        assert len(bought) == len(set(bought))
        assert {cart.id: cart.status for cart in carts} == {
            cart.id: "checked_out" if cart.id in bought else "open" for cart in carts
        }
        assert set(self.shop.reserved) | set(self.shop.sold) == paid
        for order_id in paid:
            self.shop.sell(order_id)
        self.shop.adds_up()
        return cart_id in bought


@pytest.fixture
async def world(shop: ProductServiceModel) -> AsyncIterator[World]:
    made = World(shop)
    yield made
    await made.engine.dispose()


def wish(cart_id: str, key: str = "k", user: User = ANN) -> Wish:
    return Wish(user=user, cart_id=cart_id, ship_to="1 Sea Street", key=f"{key} of {cart_id}")


async def at_every_effect(
    world: World, product_id: int, failure: type[BaseException], then: Callable[[str], Awaitable[None]], least: int
) -> list[bool]:
    """For each effect of a checkout, one that meets its fate there; `then` is called with the cart. What was bought."""
    bought = []
    for at in itertools.count(1):
        cart_id, fate = await world.cart(1, product_id), Fate(at, failure)
        async with world.process(fate) as checkout:
            try:
                await checkout.check_out(wish(cart_id))
            except (Death, Problem, failure):
                pass
        await then(cart_id)
        bought.append(await world.settled(cart_id))
        if not fate.met:
            assert at > least
            return bought
    raise AssertionError


async def test_what_dies_at_any_point_is_swept(world: World) -> None:
    async def swept(_: str) -> None:
        await world.later()

    bought = await at_every_effect(world, 2, Death, swept, least=15)
    # Until the payment's COMMIT it came to nothing, from there on it is bought.
    assert bought == sorted(bought)
    assert bought[-2:] == [True, True]


async def test_what_dies_at_any_point_is_gone_on_with_when_it_is_sent_again(world: World) -> None:
    async def again(cart_id: str) -> None:
        first = await world.checkout.check_out(wish(cart_id))
        assert first.status == "paid"
        assert (await world.checkout.check_out(wish(cart_id))).id == first.id

    assert all(await at_every_effect(world, 2, Death, again, least=15))


async def test_an_effect_that_fails_once_is_made_up_for_at_once_or_by_the_sweeper(world: World) -> None:
    async def swept(_: str) -> None:
        await world.later()

    bought = await at_every_effect(world, 2, ConnectionError, swept, least=15)
    assert any(bought)
    assert not all(bought)


@pytest.mark.parametrize("away", [False, True])
async def test_a_compensation_that_dies_at_any_point_is_swept(world: World, away: bool) -> None:
    world.shop.stock[3] = world.shop.had[3] = 0

    async def swept(_: str) -> None:
        world.shop.away = False
        await world.later()
        world.shop.away = away

    world.shop.away = away
    assert not any(await at_every_effect(world, 3, Death, swept, least=15))


async def test_a_sweeper_that_dies_at_any_point_is_followed_by_another(world: World) -> None:
    for at in itertools.count(1):
        cart_id, fate = await world.cart(1, 2), Fate(at)
        with pytest.raises(Death):
            await dies_after_its_reservation(world, cart_id)
        world.now += PENDING_S_MAX + 1
        async with world.process(fate) as checkout:
            try:
                await checkout.sweep()
            except Death:
                pass
        await world.checkout.sweep()
        assert not await world.settled(cart_id)
        if not fate.met:
            break
    assert at > 10


async def dies_after_its_reservation(world: World, cart_id: str) -> None:
    async def die(_: httpx.Request) -> None:
        raise Death

    world.shop.after = die
    try:
        await world.checkout.check_out(wish(cart_id))
    finally:
        world.shop.at_peace()


async def test_a_young_order_is_left_to_its_checkout(world: World) -> None:
    cart_id = await world.cart(1)
    with pytest.raises(Death):
        await dies_after_its_reservation(world, cart_id)
    world.now += PENDING_S_MAX - 1
    await world.checkout.sweep()
    assert len(world.shop.reserved) == 1
    assert (await world.checkout.check_out(wish(cart_id))).status == "paid"
    assert await world.settled(cart_id)


async def test_one_cart_is_bought_once_whatever_keys_come_at_once(world: World) -> None:
    cart_id = await world.cart(1, 2)
    tries = (world.checkout.check_out(wish(cart_id, key, user)) for key in "abc" for user in (ANN, BOB))
    done = await asyncio.gather(*tries, return_exceptions=True)
    refused = [one for one in done if isinstance(one, Problem)]
    assert len(done) - len(refused) == 1
    assert {problem.status for problem in refused} == {409}
    assert await world.settled(cart_id)


async def test_one_key_sent_many_times_at_once_is_one_order(world: World) -> None:
    cart_id = await world.cart(1, 2)
    done = await asyncio.gather(*(world.checkout.check_out(wish(cart_id)) for _ in range(5)))
    assert len({order.id for order in done}) == 1
    assert await world.settled(cart_id)


async def test_one_key_for_two_carts_is_refused(world: World) -> None:
    wishes = [Wish(user=ANN, cart_id=await world.cart(1), ship_to="here", key="k") for _ in range(2)]
    done = await asyncio.gather(*map(world.checkout.check_out, wishes), return_exceptions=True)
    assert {str(one.status) for one in done} == {"paid", "422"}


async def test_of_two_who_want_the_last_one_gets_it(world: World) -> None:
    carts = [await world.cart(1, 3) for _ in range(2)]
    done = await asyncio.gather(*(world.checkout.check_out(wish(id_)) for id_ in carts), return_exceptions=True)
    [problem] = [one for one in done if isinstance(one, Problem)]
    assert (problem.status, problem.type, problem.extensions) == (
        409, "out-of-stock", {"products": [{"product_id": 3}]}
    )  # fmt: skip
    assert sorted([await world.settled(id_) for id_ in carts]) == [False, True]


async def test_a_sweeper_in_every_replica_against_a_live_checkout(world: World) -> None:
    cart_id = await world.cart(1, 2)

    async def sweep(request: httpx.Request) -> None:
        if request.method == "PUT":
            world.shop.at_peace()
            world.now += PENDING_S_MAX + 1
            await asyncio.gather(*(world.checkout.sweep() for _ in range(3)))

    world.shop.after = sweep
    with pytest.raises(Problem) as refused:
        await world.checkout.check_out(wish(cart_id))
    assert (refused.value.status, refused.value.type) == (503, "checkout-cancelled")
    assert not await world.settled(cart_id)
    assert (await world.checkout.check_out(wish(cart_id))).status == "paid"
    assert await world.settled(cart_id)


async def test_a_reservation_that_arrives_after_its_release_is_refused(world: World) -> None:
    cart_id, late = await world.cart(1), []

    async def time_out(request: httpx.Request) -> None:
        if request.method == "PUT":
            late.append(request)
            raise httpx.ReadTimeout("2 s", request=request)

    world.shop.before = time_out
    with pytest.raises(Problem) as refused:
        await world.checkout.check_out(wish(cart_id))
    assert refused.value.status == 503
    world.shop.at_peace()
    assert (await world.shop.transport().handle_async_request(late[0])).status_code == 409
    assert not await world.settled(cart_id)


async def test_stock_is_given_back_when_product_service_is_there_again(world: World) -> None:
    cart_id = await world.cart(1)

    async def vanish(request: httpx.Request) -> None:
        world.shop.away = True
        raise httpx.ReadError("reset", request=request)

    world.shop.after = vanish
    with pytest.raises(Problem):
        await world.checkout.check_out(wish(cart_id))
    world.shop.at_peace()
    await world.checkout.sweep()
    assert len(world.shop.reserved) == 1
    world.shop.away = False
    await world.checkout.sweep()
    assert not await world.settled(cart_id)


@pytest.mark.parametrize("seed", range(4))
async def test_many_at_once_with_failures_add_up(world: World, seed: int) -> None:
    chance = random.Random(seed)
    world.shop.stock[2] = world.shop.had[2] = 4
    carts = [await world.cart(*chance.sample([1, 2, 3], chance.randint(1, 3))) for _ in range(6)]

    async def fail(request: httpx.Request) -> None:
        await asyncio.sleep(0)
        if chance.random() < 0.2:
            raise httpx.ReadError("reset", request=request)

    world.shop.before = world.shop.after = fail

    async def one() -> None:
        if chance.random() < 0.2:
            world.now += PENDING_S_MAX + 1
            await world.checkout.sweep()
        try:
            await world.checkout.check_out(wish(chance.choice(carts), chance.choice("ab"), chance.choice([ANN, BOB])))
        except Problem as problem:
            assert problem.status in (409, 503)

    await asyncio.gather(*(one() for _ in range(20)))
    world.shop.at_peace()
    await world.later()
    for cart_id in carts:
        await world.settled(cart_id)
