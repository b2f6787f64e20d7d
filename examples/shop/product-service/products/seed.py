"""`python -m products.seed`: 200 products, added as any other is. What was added before stays as it is by now."""

from __future__ import annotations

import asyncio

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from products import catalogue
from products.goods import goods
from products.models import Product
from shoal.sdk import database

# Of a seed that runs at the same time, the slower one finds its work done when it looks again.
_TRIES = 2


async def seed(engine: AsyncEngine) -> int:
    """All that are missing, or none; how many those were."""
    for left in reversed(range(_TRIES)):
        try:
            return await _add_missing(engine)
        except IntegrityError:
            if not left:
                raise
    raise AssertionError


async def _add_missing(engine: AsyncEngine) -> int:
    async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
        known = set(await session.scalars(select(Product.sku).where(Product.sku.is_not(None))))
        missing = [(sku, product) for sku, product in goods() if sku not in known]
        for sku, product in missing:
            await catalogue.add(session, product, sku=sku)
    return len(missing)


async def main() -> None:
    engine = database.engine()
    try:
        print(f"{await seed(engine)} products are added")
    finally:
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
