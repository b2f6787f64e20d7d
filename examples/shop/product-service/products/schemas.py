"""What is said over HTTP."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from products.models import CURRENCY, Status

_NO_NUL = r"^[^\x00]*$"
"""PostgreSQL keeps any text but that."""


def _whole(value: Any) -> Any:
    """JSON knows one kind of number: 5.0 is the integer 5. Text that looks like one is none."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
Id = Annotated[int, Field(ge=1, le=2**31 - 1), Whole]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=_NO_NUL)]
Description = Annotated[str, Field(max_length=2000, pattern=_NO_NUL)]
PriceMinor = Annotated[int, Field(ge=0, le=100_000_000, description="In cents."), Whole]
Stock = Annotated[int, Field(ge=0, le=1_000_000), Whole]
Quantity = Annotated[int, Field(ge=1, le=1000), Whole]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Product(BaseModel):
    model_config = ConfigDict(extra="forbid", from_attributes=True)

    id: int
    name: str
    description: str
    price_minor: int
    currency: str = CURRENCY
    stock: int
    version: int


class Page(BaseModel):
    items: list[Product]
    total: int = Field(description="Of all pages.")
    page: int
    size: int


class PageQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    search: Annotated[str, Field(max_length=100, pattern=_NO_NUL)] = Field(
        default="", description="Words that must all be in the name or the description, in any case of letters."
    )
    page: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1
    size: Annotated[int, Field(ge=1, le=100)] = 20


class NewProduct(_Body):
    name: Name
    description: Description = ""
    price_minor: PriceMinor
    stock: Stock = 0


class Change(_Body):
    """What is left out, or null, stays as it is."""

    name: Name | None = None
    description: Description | None = None
    price_minor: PriceMinor | None = None


class NewStock(_Body):
    stock: Stock


class Line(_Body):
    product_id: Id
    quantity: Quantity


class Order(_Body):
    lines: Annotated[list[Line], Field(min_length=1, max_length=200)]

    def quantities(self) -> dict[int, int]:
        """How many of each product, by id in order: the order in which rows are locked."""
        found: dict[int, int] = {}
        for line in sorted(self.lines, key=lambda line: line.product_id):
            found[line.product_id] = found.get(line.product_id, 0) + line.quantity
        return found


class ReservedLine(BaseModel):
    product_id: int
    quantity: int


class Reservation(BaseModel):
    order_id: UUID
    status: Status
    lines: list[ReservedLine]
