"""What the database holds."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, String, Text, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shoal.sdk import tables
from shoal.sdk.outbox import Outbox

CURRENCY = "EUR"


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("price_minor >= 0", name="price_is_not_negative"),
        CheckConstraint("stock >= 0", name="stock_is_not_negative"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str | None] = mapped_column(String(40), unique=True)
    """The article number by which the seed knows its own again, whatever they are called by then."""
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    price_minor: Mapped[int]
    stock: Mapped[int]
    """How many are neither reserved nor sold."""
    version: Mapped[int]
    """Of name, description and price: who hears of changes out of order can tell the newest."""
    folded: Mapped[str] = mapped_column(Text)
    """Name and description as a search looks for them, see `catalogue.fold`."""

    @property
    def currency(self) -> str:
        return CURRENCY


class Status(StrEnum):
    """`reserved` becomes one of the others, and those stay."""

    RESERVED = "reserved"
    SOLD = "sold"
    RELEASED = "released"


class Reservation(Base):
    """One that was released before it was made has no lines: it only says that it must not be made any more."""

    __tablename__ = "reservations"

    order_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    status: Mapped[str] = mapped_column(String(10))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class ReservationLine(Base):
    __tablename__ = "reservation_lines"
    __table_args__ = (CheckConstraint("quantity > 0", name="quantity_is_positive"),)

    order_id: Mapped[str] = mapped_column(ForeignKey("reservations.order_id"), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True)
    quantity: Mapped[int]


outbox = Outbox("product-service", metadata=Base.metadata)
tables.inbox(Base.metadata)
