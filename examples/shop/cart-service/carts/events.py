"""What other services tell: prices that change, and accounts that are deleted."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from carts import catalogue, customers
from carts.product_service import Product
from shoal.sdk.inbox import Event, Inbox


def inbox(engine: AsyncEngine) -> Inbox:
    made = Inbox(engine, name="cart-service")

    @made.on("product-service", "product.changed")
    async def product_changed(event: Event, session: AsyncSession) -> None:
        await catalogue.remember(session, Product.model_validate(event.data))

    @made.on("user-service", "user.deleted")
    async def user_deleted(event: Event, session: AsyncSession) -> None:
        await customers.erase(session, int(event.data["user_id"]))

    return made
