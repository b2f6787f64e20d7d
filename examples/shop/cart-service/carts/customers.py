"""Whose carts and orders they are, and what is left when an account is deleted."""

from __future__ import annotations

from sqlalchemy import delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from carts import orders
from carts.models import Cart, Customer, Order, OrderStatus
from shoal.sdk import tokens

_CLAIM = text("INSERT INTO customers (id, erased) VALUES (:id, :erased) ON CONFLICT DO NOTHING")


async def enter(session: AsyncSession, user_id: int) -> None:
    """Before something is written in the user's name: until the transaction ends, the account is not erased here.

    Problem 401: it has been, though the token is still good.
    """
    if (await _locked(session, user_id)).erased:
        raise tokens.refused("the account of this token is deleted")


async def erase(session: AsyncSession, user_id: int) -> None:
    """Their carts go, their checkouts are cancelled; what they bought stays as sums without a person."""
    (await _locked(session, user_id)).erased = True
    pending = select(Order.id).where(Order.user_id == user_id, Order.status == OrderStatus.PENDING)
    for order_id in (await session.scalars(pending)).all():
        await orders.cancel(session, order_id)
    nobody = {"user_id": None, "ship_to": None, "idempotency_key": None}
    await session.execute(update(Order).where(Order.user_id == user_id).values(nobody))
    await session.execute(delete(Cart).where(Cart.user_id == user_id))


async def _locked(session: AsyncSession, user_id: int) -> Customer:
    await session.execute(_CLAIM, {"id": user_id, "erased": False})
    return await session.get_one(Customer, user_id, with_for_update=True, populate_existing=True)
