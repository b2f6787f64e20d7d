"""What the database holds."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from shoal.sdk import tables
from shoal.sdk.idempotency import IdempotencyStore
from shoal.sdk.outbox import Outbox

CURRENCY: Literal["EUR"] = "EUR"


class Base(DeclarativeBase):
    pass


class CartStatus(StrEnum):
    """`open` may be changed; it comes back from `checking_out` when the checkout comes to nothing."""

    OPEN = "open"
    CHECKING_OUT = "checking_out"
    CHECKED_OUT = "checked_out"


class OrderStatus(StrEnum):
    """What may become what is in `orders.ORDER_MOVES`."""

    PENDING = "pending"
    PAID = "paid"
    CANCELLING = "cancelling"
    """It will never be paid; product-service may still hold stock for it."""
    CANCELLED = "cancelled"


LIVE = (OrderStatus.PENDING, OrderStatus.PAID)
_LIVE = text("status IN ('pending', 'paid')")
_UNFINISHED = text("status IN ('pending', 'cancelling')")


class Customer(Base):
    """A user as far as this service must know: their row is what all that is written in their name locks first."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    erased: Mapped[bool]
    """Stays, as a number without a person: tokens of the account are good for a while after its end."""


class KnownProduct(Base):
    """Our own copy of what product-service tells by events."""

    __tablename__ = "known_products"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(200))
    price_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    version: Mapped[int]


class Cart(Base):
    __tablename__ = "carts"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[int | None] = mapped_column(index=True)
    """None: whoever knows the id may use it."""
    status: Mapped[str] = mapped_column(String(12))
    created_at: Mapped[float] = mapped_column(Float(53))


class CartItem(Base):
    __tablename__ = "cart_items"
    __table_args__ = (CheckConstraint("quantity > 0", name="quantity_is_positive"),)

    cart_id: Mapped[str] = mapped_column(ForeignKey("carts.id", ondelete="CASCADE"), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("known_products.id"), primary_key=True)
    quantity: Mapped[int]


class Order(Base):
    """Its lines are what the cart was worth when the checkout began. It outlives the cart, and the account."""

    __tablename__ = "orders"
    __table_args__ = (
        # What the code sees to by locks, the database does not believe: one order for a cart, and for a key.
        Index("one_live_order_of_a_cart", "cart_id", unique=True, postgresql_where=_LIVE, sqlite_where=_LIVE),
        Index(
            "one_live_order_of_a_key",
            "user_id",
            "idempotency_key",
            unique=True,
            postgresql_where=_LIVE,
            sqlite_where=_LIVE,
        ),
        Index("unfinished_orders", "created_at", postgresql_where=_UNFINISHED, sqlite_where=_UNFINISHED),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    cart_id: Mapped[str] = mapped_column(String(36))
    user_id: Mapped[int | None]
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    status: Mapped[str] = mapped_column(String(10))
    ship_to: Mapped[str | None] = mapped_column(Text)
    total_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3))
    created_at: Mapped[float] = mapped_column(Float(53))
    lines: Mapped[list[OrderLine]] = relationship(lazy="selectin", order_by="OrderLine.product_id")


class OrderLine(Base):
    __tablename__ = "order_lines"

    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    product_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(200))
    price_minor: Mapped[int]
    quantity: Mapped[int]


class Payment(Base):
    """That the money was taken: once for an order, by the primary key.

    Stands for a payment provider's answer. A real one is asked between `reserve` and `pay`, with the order's id as its
    idempotency key.
    """

    __tablename__ = "payments"

    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3))
    paid_at: Mapped[float] = mapped_column(Float(53))


outbox = Outbox("cart-service", metadata=Base.metadata)
idempotency = IdempotencyStore(Base.metadata)
tables.inbox(Base.metadata)
