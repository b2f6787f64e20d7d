"""The states of an order and of its cart, and how one becomes another.

Always by compare-and-set in the database: of several replicas that try, one does it, whatever the others believe.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from carts.models import LIVE, Cart, CartStatus, Order, OrderStatus

ORDER_MOVES = frozenset(
    {
        (OrderStatus.PENDING, OrderStatus.PAID),
        (OrderStatus.PENDING, OrderStatus.CANCELLING),
        (OrderStatus.CANCELLING, OrderStatus.CANCELLED),
    }
)
CART_MOVES = frozenset(
    {
        (CartStatus.OPEN, CartStatus.CHECKING_OUT),
        (CartStatus.CHECKING_OUT, CartStatus.OPEN),
        (CartStatus.CHECKING_OUT, CartStatus.CHECKED_OUT),
    }
)
HISTORY_MAX = 100


async def move(session: AsyncSession, order_id: str, old: OrderStatus, new: OrderStatus) -> bool:
    """Whether the order was `old`, and becomes `new` with this transaction. Before the order is loaded in it."""
    if (old, new) not in ORDER_MOVES:
        raise ValueError(f"an order that is {old} does not become {new}")
    return await _set(session, update(Order).where(Order.id == order_id, Order.status == old), new)


async def move_cart(session: AsyncSession, cart_id: str, old: CartStatus, new: CartStatus) -> bool:
    if (old, new) not in CART_MOVES:
        raise ValueError(f"a cart that is {old} does not become {new}")
    return await _set(session, update(Cart).where(Cart.id == cart_id, Cart.status == old), new)


async def cancel(session: AsyncSession, order_id: str) -> Order:
    """It is not paid any more, and its cart may be bought again. An order that is not pending stays as it is."""
    cancelled_now = await move(session, order_id, OrderStatus.PENDING, OrderStatus.CANCELLING)
    order = await session.get_one(Order, order_id)
    if cancelled_now:
        await move_cart(session, order.cart_id, CartStatus.CHECKING_OUT, CartStatus.OPEN)
    return order


async def of_key(session: AsyncSession, user_id: int, key: str) -> Order | None:
    """The one that came with that Idempotency-Key, pending or paid."""
    mine = (Order.user_id == user_id) & (Order.idempotency_key == key)
    found: Order | None = await session.scalar(select(Order).where(mine, Order.status.in_(LIVE)))
    return found


async def of_user(session: AsyncSession, user_id: int) -> list[Order]:
    """The newest, without those that came to nothing."""
    mine = select(Order).where(Order.user_id == user_id, Order.status.in_(LIVE))
    newest = mine.order_by(Order.created_at.desc(), Order.id).limit(HISTORY_MAX)
    return list(await session.scalars(newest))


async def _set(session: AsyncSession, those: Any, status: str) -> bool:
    done: Any = await session.execute(those.values(status=status).execution_options(synchronize_session=False))
    return bool(done.rowcount)
