"""The products: found, added, changed.

What others keep copies of, a name or a price, changes together with the event that tells them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from products.models import Product, outbox
from products.schemas import Change, NewProduct


def fold(text: str) -> str:
    """As it is compared in a search.

    Here and not in the database: SQLite's `lower` knows no letters but ASCII's, PostgreSQL's those of its locale.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def pattern(word: str) -> str:
    """For LIKE with the escape `\\`: text that has the word anywhere, also when it has `%` or `_` in it."""
    for special in ("\\", "%", "_"):
        word = word.replace(special, f"\\{special}")
    return f"%{word}%"


async def find(session: AsyncSession, search: str, *, page: int, size: int) -> tuple[Sequence[Product], int]:
    """Of those with all words of `search`, the newest first: the given page (from 1), and how many there are in all."""
    having = [Product.folded.like(pattern(word), escape="\\") for word in fold(search).split()]
    newest = select(Product).where(*having).order_by(Product.id.desc())
    found = await session.scalars(newest.offset((page - 1) * size).limit(size))
    total = await session.scalar(select(func.count()).select_from(Product).where(*having))
    return found.all(), total or 0


async def add(session: AsyncSession, new: NewProduct, *, sku: str | None = None) -> Product:
    product = Product(**new.model_dump(), sku=sku, version=1, folded=_folded(new.name, new.description))
    session.add(product)
    await session.flush()
    await _tell(session, product)
    return product


async def change(session: AsyncSession, product_id: int, wanted: Change) -> Product | None:
    """A change that changes nothing makes no version and no event. None: there is no such product."""
    product = await session.get(Product, product_id, with_for_update=True)
    if product is None:
        return None
    new = wanted.model_dump(exclude_none=True)
    if any(getattr(product, field) != value for field, value in new.items()):
        for field, value in new.items():
            setattr(product, field, value)
        product.folded = _folded(product.name, product.description)
        product.version += 1
        await _tell(session, product)
    return product


async def set_stock(session: AsyncSession, product_id: int, stock: int) -> Product | None:
    """How many there are besides those that are reserved. None: there is no such product."""
    product = await session.get(Product, product_id, with_for_update=True)
    if product is not None:
        product.stock = stock
    return product


async def _tell(session: AsyncSession, product: Product) -> None:
    told = {field: getattr(product, field) for field in ("id", "name", "price_minor", "currency", "version")}
    await outbox.add(session, type="product.changed", subject=str(product.id), data=told)


def _folded(name: str, description: str) -> str:
    return fold(f"{name}\n{description}")
