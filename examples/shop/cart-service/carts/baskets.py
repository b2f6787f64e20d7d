"""What is in a cart, and who may see and change it."""

from __future__ import annotations

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from carts import schemas
from carts.identity import User
from carts.models import Cart, CartItem, CartStatus, KnownProduct
from shoal.sdk.problems import Problem

ITEMS_MAX = 100
"""Different products in a cart."""


async def visible(session: AsyncSession, cart_id: str, user: User | None, *, lock: bool = False) -> Cart:
    """To its owner, or to whoever knows its id when it has none. `lock`: it stays as it is until the transaction ends.

    Problem 404: no cart, or another's.
    """
    cart = await session.get(Cart, cart_id, with_for_update=lock, populate_existing=lock)
    if cart is None or (cart.user_id is not None and (user is None or user.id != cart.user_id)):
        raise Problem(
            404, "Unknown cart", detail=f"there is no cart {cart_id}, or it is not yours", type="unknown-cart"
        )
    return cart


async def changeable(session: AsyncSession, cart_id: str, user: User | None) -> Cart:
    """Locked: a checkout waits for our change, or we find it begun. Problem 404; 409: it is not open."""
    cart = await visible(session, cart_id, user, lock=True)
    if cart.status != CartStatus.OPEN:
        raise closed(cart)
    return cart


async def lines(session: AsyncSession, cart_id: str) -> list[schemas.Line]:
    """By what we know of names and prices now."""
    wanted = select(KnownProduct, CartItem.quantity).join(CartItem, CartItem.product_id == KnownProduct.id)
    rows = await session.execute(wanted.where(CartItem.cart_id == cart_id).order_by(KnownProduct.id))
    return [schemas.Line.of(known, quantity) for known, quantity in rows]


async def show(session: AsyncSession, cart: Cart) -> schemas.Cart:
    return schemas.Cart.of(cart, await lines(session, cart.id))


async def put(session: AsyncSession, cart: Cart, product_id: int, quantity: int, *, add: bool = False) -> None:
    """So many of a product that the catalogue knows, or so many more. Of a locked cart. Problem 409: it is too much."""
    item = await session.get(CartItem, (cart.id, product_id))
    wanted = quantity + (item.quantity if item and add else 0)
    if wanted > schemas.QUANTITY_MAX:
        raise Problem(
            409, "Too many", detail=f"a cart takes {schemas.QUANTITY_MAX} of a product, not {wanted}", type="too-many"
        )
    if item is not None:
        item.quantity = wanted
    elif await _count(session, cart) >= ITEMS_MAX:
        raise Problem(409, "Cart full", detail=f"a cart takes {ITEMS_MAX} different products", type="cart-full")
    else:
        session.add(CartItem(cart_id=cart.id, product_id=product_id, quantity=wanted))
    await session.flush()


async def remove(session: AsyncSession, cart: Cart, product_id: int) -> None:
    await session.execute(delete(CartItem).where(CartItem.cart_id == cart.id, CartItem.product_id == product_id))


def closed(cart: Cart) -> Problem:
    if cart.status == CartStatus.CHECKING_OUT:
        return Problem(
            409, "Checkout under way", detail=f"cart {cart.id} is being checked out", type="checkout-under-way"
        )
    return Problem(409, "Checked out", detail=f"cart {cart.id} is checked out; make a new one", type="checked-out")


async def _count(session: AsyncSession, cart: Cart) -> int:
    return await session.scalar(select(func.count()).where(CartItem.cart_id == cart.id)) or 0
