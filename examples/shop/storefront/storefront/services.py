"""What the storefront asks the three services, and what they answer."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from shoal.sdk import context, deadline

TIMEOUT_S = 5.0
"""For one question; somebody is looking at an empty window meanwhile."""
CHECKOUT_TIMEOUT_S = 10.0
Model = TypeVar("Model", bound=BaseModel)
PORTS = {"user-service": 3000, "product-service": 3001, "cart-service": 3002}


class AwayError(Exception):
    """A service does not answer, or not with what it should."""

    def __init__(self, service: str, why: object = "") -> None:
        super().__init__(f"{service} is away: {why!r}")
        self.service = service


class RefusedError(Exception):
    """A service answered that it will not, for a reason that is the asker's."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{status}: {problem}")
        self.status = status
        self.kind = str(problem.get("type", "")).rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        """`out-of-stock` and the like: the last word of the problem's type."""
        self.detail = str(problem.get("detail") or problem.get("title") or "")


class Product(BaseModel):
    id: int
    name: str
    description: str
    price_minor: int
    stock: int


class Products(BaseModel):
    items: list[Product]
    total: int
    page: int
    size: int


class Line(BaseModel):
    product_id: int
    name: str
    price_minor: int
    quantity: int
    total_minor: int


class Cart(BaseModel):
    id: str
    items: list[Line]
    total_minor: int
    status: str

    @property
    def count(self) -> int:
        return sum(line.quantity for line in self.items)


class Order(BaseModel):
    id: str
    status: str
    lines: list[Line]
    total_minor: int
    ship_to: str | None = None
    created_at: str


class User(BaseModel):
    id: int
    name: str
    email: str


class Token(BaseModel):
    token: str
    expires_in_s: int


class Service:
    """One of the three, asked over HTTP."""

    def __init__(self, name: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.name = name
        # trust_env off: the HTTP_PROXY of whoever started the shop knows nothing of its names.
        url = f"http://{name}" if transport else url_of(name)
        self._client = httpx.AsyncClient(base_url=url, transport=transport, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        token: str = "",
        key: str = "",
        timeout_s: float = TIMEOUT_S,
        params: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """The decoded answer, None when it has no body. Raises AwayError and RefusedError."""
        headers = {"Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if key:
            headers["Idempotency-Key"] = key
        try:
            with context.within(timeout_s):
                answer = await self._client.request(
                    method,
                    path,
                    params=params,
                    json=body,
                    headers=headers | context.headers(),
                    timeout=deadline.remaining_s(timeout_s),
                )
        except (httpx.HTTPError, deadline.DeadlineError) as error:
            raise AwayError(self.name, error) from error
        try:
            told = answer.json() if answer.content else None
        except ValueError as error:  # no JSON: a proxy's own words
            raise AwayError(self.name, f"status {answer.status_code}") from error
        if answer.status_code >= 500 or answer.status_code == 429:
            raise AwayError(self.name, f"status {answer.status_code}")
        if answer.is_error:
            raise RefusedError(answer.status_code, told if isinstance(told, dict) else {})
        return told


class Services:
    """All three. Ids from an address are checked before they become part of another."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._users, self._products, self._carts = (Service(name, transport) for name in PORTS)

    async def close(self) -> None:
        for service in (self._users, self._products, self._carts):
            await service.close()

    async def register(self, name: str, email: str, password: str) -> None:
        await self._users.ask("POST", "/register", body={"name": name, "email": email, "password": password})

    async def log_in(self, email: str, password: str) -> Token:
        told = await self._users.ask("POST", "/login", body={"email": email, "password": password})
        return read(Token, told, self._users)

    async def me(self, token: str) -> User:
        return read(User, await self._users.ask("GET", "/users/me", token=token), self._users)

    async def delete_me(self, token: str, password: str) -> None:
        await self._users.ask("DELETE", "/users/me", token=token, body={"password": password})

    async def products(self, search: str, page: int, size: int) -> Products:
        params = {"page": page, "size": size} | ({"search": search} if search else {})
        return read(Products, await self._products.ask("GET", "/products", params=params), self._products)

    async def product(self, product_id: int) -> Product:
        return read(Product, await self._products.ask("GET", f"/products/{product_id}"), self._products)

    async def new_cart(self, token: str) -> Cart:
        return read(Cart, await self._carts.ask("POST", "/carts", token=token), self._carts)

    async def cart(self, cart_id: str, token: str) -> Cart:
        told = await self._carts.ask("GET", f"/carts/{checked(cart_id)}", token=token)
        return read(Cart, told, self._carts)

    async def add(self, cart_id: str, product_id: int, quantity: int, token: str) -> Cart:
        """With a key of its own, so that Envoy may send it to another replica."""
        told = await self._carts.ask(
            "POST",
            f"/carts/{checked(cart_id)}/items",
            token=token,
            key=str(uuid.uuid4()),
            body={"product_id": product_id, "quantity": quantity},
        )
        return read(Cart, told, self._carts)

    async def change(self, cart_id: str, product_id: int, quantity: int, token: str) -> None:
        path = f"/carts/{checked(cart_id)}/items/{product_id}"
        await self._carts.ask("PUT", path, token=token, body={"quantity": quantity})

    async def remove(self, cart_id: str, product_id: int, token: str) -> None:
        await self._carts.ask("DELETE", f"/carts/{checked(cart_id)}/items/{product_id}", token=token)

    async def check_out(self, cart_id: str, ship_to: str, token: str, key: str) -> Order:
        told = await self._carts.ask(
            "POST",
            f"/carts/{checked(cart_id)}/checkout",
            token=token,
            key=key,
            body={"ship_to": ship_to},
            timeout_s=CHECKOUT_TIMEOUT_S,
        )
        return read(Order, told, self._carts)

    async def orders(self, token: str) -> list[Order]:
        told = await self._carts.ask("GET", "/orders", token=token)
        listed = told.get("items", []) if isinstance(told, dict) else told
        return [read(Order, one, self._carts) for one in listed or []]

    async def order(self, order_id: str, token: str) -> Order:
        return read(Order, await self._carts.ask("GET", f"/orders/{checked(order_id)}", token=token), self._carts)


def url_of(service: str) -> str:
    """Shoal sets the variable; elsewhere the name does."""
    return os.environ.get(f"{service.upper().replace('-', '_')}_URL", f"http://{service}:{PORTS[service]}")


def read(model: type[Model], told: object, service: Service) -> Model:
    try:
        return model.model_validate(told)
    except ValidationError as error:
        raise AwayError(service.name, error) from error


def checked(identifier: str) -> str:
    """Of a cart or an order. RefusedError 404: it is none, so there can be nothing behind it."""
    try:
        return str(uuid.UUID(identifier))
    except ValueError:
        raise RefusedError(404, {"title": "Not found"}) from None
