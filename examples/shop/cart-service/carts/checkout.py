"""A checkout, over the databases of two services: all of it comes about, or nothing.

    begin    transaction   the order is pending, its lines are frozen; the cart is checking out
    reserve  HTTP          product-service keeps the stock, under the order's id
    pay      transaction   payment, order paid, cart checked out, event `order.paid`: if the order is still pending
    cancel   transaction   order cancelling, cart open again: if the order is still pending
    release  HTTP          product-service gives the stock back, and keeps none for this order any more
             transaction   order cancelled

The process may die between any two of them and in the midst of each. What it leaves is a pending order: the same
request sent again goes on with it, and when none comes, a sweeper cancels it. Paid or cancelled is decided in our
database, by who first makes `pending` something else; the stock follows.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from carts import baskets, customers, orders
from carts.identity import User
from carts.models import CURRENCY, CartStatus, Order, OrderLine, OrderStatus, Payment, outbox
from carts.product_service import ProductService
from shoal.sdk.database import Transactions
from shoal.sdk.problems import Problem

PENDING_S_MAX = 30.0
"""After which the checkout of a pending order has died, or may as well have."""
SWEEP_MAX = 100
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """`key`: made up by the client; the same wish has the same one."""

    user: User
    cart_id: str
    ship_to: str
    key: str


class Checkout:
    def __init__(
        self,
        sessions: Transactions,
        products: ProductService,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions, self._products, self._clock = sessions, products, clock

    async def check_out(self, wish: Wish) -> Order:
        """The paid order. Problem 401, 404, 409, 422, 503: nothing is charged, and nothing will be."""
        order = await self._begin(wish)
        if order.status == OrderStatus.PAID:
            return order
        try:
            await self._products.reserve(order.id, order.lines)
            return await self._pay(order.id)
        except Exception:
            # Paid it may be all the same: by the same request in another replica, or by a COMMIT that nobody answered.
            order = await self._cancel(order.id)
            if order.status == OrderStatus.PAID:
                return order
            await self._release(order.id)
            raise

    async def sweep(self) -> None:
        """Ends what others have left: checkouts that died, and those that could not give the stock back."""
        for order_id in await self._ids(OrderStatus.PENDING, older_than_s=PENDING_S_MAX):
            await self._cancel(order_id)
        for order_id in await self._ids(OrderStatus.CANCELLING):
            if not await self._release(order_id):
                return

    async def _begin(self, wish: Wish) -> Order:
        """A pending order; or the one that the same wish has brought before, pending or paid."""
        async with self._sessions.begin() as session:
            await customers.enter(session, wish.user.id)
            order = await orders.of_key(session, wish.user.id, wish.key)
            if order is None:
                order = await self._new(session, wish)
            elif (order.cart_id, order.ship_to) != (wish.cart_id, wish.ship_to):
                raise Problem(
                    422, "Idempotency-Key reused", type="key-reused", detail="this key came with another request before"
                )
            return order

    async def _new(self, session: AsyncSession, wish: Wish) -> Order:
        cart = await baskets.visible(session, wish.cart_id, wish.user)
        if not await orders.move_cart(session, cart.id, CartStatus.OPEN, CartStatus.CHECKING_OUT):
            await session.refresh(cart)
            raise baskets.closed(cart)
        lines = await baskets.lines(session, cart.id)
        if not lines:
            raise Problem(422, "Empty cart", type="empty-cart", detail=f"nothing is in cart {cart.id}")
        order = Order(
            id=str(uuid.uuid4()),
            cart_id=cart.id,
            user_id=wish.user.id,
            idempotency_key=wish.key,
            status=OrderStatus.PENDING,
            ship_to=wish.ship_to,
            total_minor=sum(line.total_minor for line in lines),
            currency=CURRENCY,
            created_at=self._clock(),
            lines=[OrderLine(**line.model_dump(exclude={"total_minor"})) for line in lines],
        )
        session.add(order)
        return order

    async def _pay(self, order_id: str) -> Order:
        """Problem 503: the sweeper, or the same request in another replica, has cancelled it."""
        async with self._sessions.begin() as session:
            paid_now = await orders.move(session, order_id, OrderStatus.PENDING, OrderStatus.PAID)
            order = await session.get_one(Order, order_id)
            if paid_now:
                await self._settle(session, order)
        if order.status != OrderStatus.PAID:
            raise Problem(
                503,
                "Checkout cancelled",
                type="checkout-cancelled",
                detail="it took too long; nothing is charged, try again",
                headers={"Retry-After": "1"},
            )
        return order

    async def _settle(self, session: AsyncSession, order: Order) -> None:
        paid = {"order_id": order.id, "amount_minor": order.total_minor, "currency": order.currency}
        session.add(Payment(**paid, paid_at=self._clock()))
        if not await orders.move_cart(session, order.cart_id, CartStatus.CHECKING_OUT, CartStatus.CHECKED_OUT):
            raise RuntimeError(f"cart {order.cart_id} of the pending order {order.id} is not checking out")
        lines = [{"product_id": line.product_id, "quantity": line.quantity} for line in order.lines]
        data: dict[str, Any] = {"order_id": order.id, "user_id": order.user_id, "lines": lines}
        await outbox.add(session, type="order.paid", subject=order.id, data=data)

    async def _cancel(self, order_id: str) -> Order:
        async with self._sessions.begin() as session:
            return await orders.cancel(session, order_id)

    async def _release(self, order_id: str) -> bool:
        """Whether product-service keeps nothing for it any more; when it does not answer, the sweeper tries again."""
        try:
            await self._products.release(order_id)
        except Problem as problem:
            _log.warning("order %s is cancelled, but its stock is not given back yet: %s", order_id, problem)
            return False
        async with self._sessions.begin() as session:
            await orders.move(session, order_id, OrderStatus.CANCELLING, OrderStatus.CANCELLED)
        return True

    async def _ids(self, status: OrderStatus, *, older_than_s: float = 0.0) -> list[str]:
        wanted = select(Order.id).where(Order.status == status, Order.created_at <= self._clock() - older_than_s)
        async with self._sessions.begin() as session:
            return list(await session.scalars(wanted.order_by(Order.created_at).limit(SWEEP_MAX)))
