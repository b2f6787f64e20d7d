"""Stock that is kept for an order: reserved, then sold or released.

Whoever changes stock has locked the reservation first and the products after it, in the order of their ids. So of two
orders of the same things one waits for the other, and never each for the other. (SQLite has one writer at a time.)
"""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from products.models import Product, Reservation, ReservationLine, Status
from shoal.sdk.problems import Problem

_CLAIM = text("INSERT INTO reservations (order_id, status) VALUES (:order_id, :status) ON CONFLICT DO NOTHING")
_log = logging.getLogger(__name__)


class UnsellableError(Exception):
    """An order was paid of which nothing is kept."""


async def reserve(session: AsyncSession, order_id: str, quantities: dict[int, int]) -> tuple[Reservation, bool]:
    """All of it, or a Problem (409) and nothing; whether it was made now. The same again changes nothing.

    `quantities`: how many of each product, by its id.
    """
    if not await _claim(session, order_id, Status.RESERVED):
        return await _again(session, order_id, quantities), False
    products = await _locked(session, quantities)
    left = {product_id: products[product_id].stock if product_id in products else 0 for product_id in quantities}
    missing = [
        {"product_id": product_id, "wanted": wanted, "available": left[product_id]}
        for product_id, wanted in quantities.items()
        if left[product_id] < wanted
    ]
    if missing:
        raise Problem(
            409, "Out of stock", detail="; ".join(_told(products, short) for short in missing),
            type="out-of-stock", products=missing,
        )  # fmt: skip
    for product_id, wanted in quantities.items():
        products[product_id].stock -= wanted
        session.add(ReservationLine(order_id=order_id, product_id=product_id, quantity=wanted))
    return await _existing(session, order_id), True


async def release(session: AsyncSession, order_id: str) -> None:
    """Gives back what is reserved, once; the order can reserve nothing afterwards, even if it has not until now."""
    if await _claim(session, order_id, Status.RELEASED):
        return
    reservation = await _existing(session, order_id)
    if reservation.status == Status.SOLD:
        _log.warning("order %s is sold: it is not released", order_id)
    if reservation.status != Status.RESERVED:
        return
    reservation.status = Status.RELEASED
    quantities = await lines(session, order_id)
    for product_id, product in (await _locked(session, quantities)).items():
        product.stock += quantities[product_id]


async def sell(session: AsyncSession, order_id: str) -> None:
    """It was paid: what it has reserved is gone for good. UnsellableError."""
    reservation = await session.get(Reservation, order_id, with_for_update=True)
    if reservation is None or reservation.status == Status.RELEASED:
        raise UnsellableError(f"order {order_id} is paid, but {'released' if reservation else 'never reserved'}")
    reservation.status = Status.SOLD


async def lines(session: AsyncSession, order_id: str) -> dict[int, int]:
    """How many of each product, by its id in order."""
    of_order = select(ReservationLine).where(ReservationLine.order_id == order_id)
    found = await session.scalars(of_order.order_by(ReservationLine.product_id))
    return {line.product_id: line.quantity for line in found}


async def _claim(session: AsyncSession, order_id: str, status: Status) -> bool:
    """Whether this order was not known until now. Waits for a transaction that is about to make it known."""
    done: Any = await session.execute(_CLAIM, {"order_id": order_id, "status": status})
    return bool(done.rowcount)


async def _existing(session: AsyncSession, order_id: str) -> Reservation:
    return await session.get_one(Reservation, order_id, with_for_update=True)


async def _again(session: AsyncSession, order_id: str, quantities: dict[int, int]) -> Reservation:
    reservation = await _existing(session, order_id)
    if reservation.status == Status.RELEASED:
        raise Problem(
            409, "Released", detail=f"order {order_id} has been released; make a new order", type="reservation-released"
        )
    if await lines(session, order_id) != quantities:
        raise Problem(
            409, "Reserved otherwise", detail=f"order {order_id} has reserved other things", type="reservation-differs"
        )
    return reservation


async def _locked(session: AsyncSession, product_ids: dict[int, int]) -> dict[int, Product]:
    """Those there are."""
    rows = select(Product).where(Product.id.in_(product_ids)).order_by(Product.id).with_for_update()
    return {product.id: product for product in await session.scalars(rows)}


def _told(products: dict[int, Product], short: dict[str, int]) -> str:
    product = products.get(short["product_id"])
    if product is None:
        return f"there is no product {short['product_id']}"
    return f"{short['wanted']} of '{product.name}' are wanted, {product.stock or 'none'} left"
