"""What is sold, and for how much."""

from typing import Annotated

from base import Base, app, sessions
from fastapi import Body, HTTPException
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price_minor: Mapped[int]


@app.get("/products")
async def products():
    async with sessions.begin() as session:
        return (await session.scalars(select(Product).order_by(Product.id))).all()


@app.get("/products/{number}")
async def product(number: int):
    async with sessions.begin() as session:
        found = await session.get(Product, number)
    if found is None:
        raise HTTPException(404, "no such product")
    return found


@app.put("/products/{number}")
async def put_product(number: int, name: Annotated[str, Body()], price_minor: Annotated[int, Body()]):
    async with sessions.begin() as session:
        return await session.merge(Product(id=number, name=name, price_minor=price_minor))
