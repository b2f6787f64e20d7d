"""What somebody is about to buy."""

from typing import Annotated

from base import Base, app, sessions
from fastapi import Body, Depends
from products import Product, product
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column
from users import signed_in


class Item(Base):
    __tablename__ = "items"
    user: Mapped[str] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(primary_key=True)
    quantity: Mapped[int]


@app.put("/cart/{number}", status_code=204)
async def put_item(number: int, quantity: Annotated[int, Body(embed=True)], user: Annotated[str, Depends(signed_in)]):
    await product(number)
    async with sessions.begin() as session:
        await session.merge(Item(user=user, product_id=number, quantity=quantity))


@app.get("/cart")
async def cart(user: Annotated[str, Depends(signed_in)]):
    mine = select(Item, Product).join(Product, Product.id == Item.product_id).where(Item.user == user)
    async with sessions.begin() as session:
        rows = await session.execute(mine)
        return [{"name": product.name, "total_minor": product.price_minor * item.quantity} for item, product in rows]
