"""What is asked of product-service, by its name."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import httpx
from pydantic import BaseModel, Field, ValidationError

from carts.models import OrderLine
from shoal.sdk import context, deadline
from shoal.sdk.problems import Problem

TIMEOUT_S = 2.0
_log = logging.getLogger(__name__)


class Product(BaseModel):
    """As much of an answer, or of an event, as a cart needs. What else they say by now is not our business."""

    id: int = Field(ge=1, le=2**31 - 1)
    name: str = Field(max_length=200)
    price_minor: int = Field(ge=0, le=2**31 - 1)
    currency: str = Field(min_length=3, max_length=3)
    version: int = Field(ge=0, le=2**31 - 1)


class ProductService:
    """Raises Problem only: 503 when product-service does not answer, or not with what it should."""

    def __init__(self, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        url = os.environ.get("PRODUCT_SERVICE_URL", "http://product-service:3001")
        # trust_env off: the HTTP_PROXY of whoever started the shop knows nothing of its names.
        self._client = httpx.AsyncClient(base_url=url, transport=transport, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def product(self, product_id: int) -> Product:
        """Problem 404: there is none."""
        answer = await self._ask("GET", f"/products/{product_id}")
        if answer.status_code == 404:
            raise Problem(404, "Unknown product", detail=f"there is no product {product_id}", type="unknown-product")
        try:
            return Product.model_validate_json(_expected(answer).content)
        except ValidationError as error:
            raise away(f"its product {product_id} is none") from error

    async def reserve(self, order_id: str, lines: Sequence[OrderLine]) -> None:
        """All of it or nothing; the same again changes nothing. Problem 409: not all of it is in stock."""
        wanted = [{"product_id": line.product_id, "quantity": line.quantity} for line in lines]
        answer = await self._ask("PUT", f"/reservations/{order_id}", body={"lines": wanted})
        if answer.status_code == 409:
            told = _problem(answer)
            if told.get("type") == "out-of-stock":
                short = {"products": told["products"]} if "products" in told else {}
                raise Problem(409, "Out of stock", type="out-of-stock", detail=str(told.get("detail", "")), **short)
        _expected(answer)

    async def release(self, order_id: str) -> None:
        """What was reserved is given back, once, and nothing can be reserved under that id any more."""
        # Whoever waits for the checkout may have left: what is reserved is given back all the same.
        with context.serving(context.Context()):
            _expected(await self._ask("DELETE", f"/reservations/{order_id}"))

    async def _ask(self, method: str, path: str, *, body: object = None) -> httpx.Response:
        try:
            return await self._client.request(
                method, path, json=body, headers=context.headers(), timeout=deadline.remaining_s(TIMEOUT_S)
            )
        except (httpx.HTTPError, deadline.DeadlineError) as error:
            raise away(repr(error)) from error


def away(why: str) -> Problem:
    _log.warning("product-service is away: %s", why)
    return Problem(
        503,
        "product-service is away",
        type="product-service-away",
        detail="nothing has changed; try again in a moment",
        headers={"Retry-After": "1"},
    )


def _expected(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        raise away(f"it answered {answer.status_code}")
    return answer


def _problem(answer: httpx.Response) -> dict[str, Any]:
    try:
        told = answer.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
