"""What is said over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from carts import models
from carts.models import CURRENCY, CartStatus, OrderStatus

NO_NUL = r"^[^\x00]*$"
"""PostgreSQL keeps any text but that."""
QUANTITY_MAX = 1000


def whole(value: object) -> object:
    """7.0 is an integer too, as JSON Schema counts; "7" is none."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Id = Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(whole)]
Quantity = Annotated[int, Field(ge=1, le=QUANTITY_MAX), BeforeValidator(whole)]
Key = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]*$")]
"""Of the header `Idempotency-Key`: what the client makes up, a UUID for instance."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Wanted(_Body):
    quantity: Quantity


class NewItem(_Body):
    product_id: Id
    quantity: Quantity = 1


class NewOrder(_Body):
    ship_to: Annotated[str, Field(min_length=1, max_length=500, pattern=NO_NUL)]


class Line(BaseModel):
    product_id: int
    name: str
    price_minor: int = Field(description="Of one, in cents.")
    quantity: int
    total_minor: int

    @classmethod
    def of(cls, known: models.KnownProduct, quantity: int) -> Line:
        return cls(
            product_id=known.id,
            name=known.name,
            price_minor=known.price_minor,
            quantity=quantity,
            total_minor=known.price_minor * quantity,
        )


class Cart(BaseModel):
    id: UUID
    items: list[Line]
    total_minor: int
    currency: Literal["EUR"] = CURRENCY
    status: CartStatus

    @classmethod
    def of(cls, cart: models.Cart, items: list[Line]) -> Cart:
        total_minor = sum(line.total_minor for line in items)
        return cls(id=UUID(cart.id), items=items, total_minor=total_minor, status=CartStatus(cart.status))


class Order(BaseModel):
    id: UUID
    status: OrderStatus
    lines: list[Line]
    total_minor: int
    currency: Literal["EUR"] = CURRENCY
    ship_to: str
    created_at: datetime

    @classmethod
    def of(cls, order: models.Order) -> Order:
        lines = [
            Line(
                product_id=line.product_id,
                name=line.name,
                price_minor=line.price_minor,
                quantity=line.quantity,
                total_minor=line.price_minor * line.quantity,
            )
            for line in order.lines
        ]
        return cls(
            id=UUID(order.id),
            status=OrderStatus(order.status),
            lines=lines,
            total_minor=order.total_minor,
            ship_to=order.ship_to or "",
            created_at=datetime.fromtimestamp(order.created_at, UTC),
        )
