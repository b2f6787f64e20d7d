"""Our own copy of names and prices: carts show while product-service is down."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from carts.models import KnownProduct
from carts.product_service import Product

_REMEMBER = text("""
    INSERT INTO known_products (id, name, price_minor, currency, version)
    VALUES (:id, :name, :price_minor, :currency, :version)
    ON CONFLICT (id) DO UPDATE SET
        name = excluded.name, price_minor = excluded.price_minor,
        currency = excluded.currency, version = excluded.version
    WHERE known_products.version < excluded.version
""")


async def remember(session: AsyncSession, product: Product) -> None:
    """What is older than what we know changes nothing: an event and an answer may overtake each other."""
    await session.execute(_REMEMBER, product.model_dump())


async def knows(session: AsyncSession, product_id: int) -> bool:
    return await session.get(KnownProduct, product_id) is not None
