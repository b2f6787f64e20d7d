"""cart-service: `POST /carts`, `GET` and `DELETE /carts/{id}`.

It asks product-service, by its name, what a thing costs.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
from fastapi import FastAPI, Header, HTTPException, Request, Response
from pydantic import BaseModel, Field

from shop import idempotency
from shop.database import Database, data_folder

SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS carts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, product_id INTEGER NOT NULL, name TEXT NOT NULL, quantity INTEGER NOT NULL,
    total_cents INTEGER NOT NULL
);
"""
    + idempotency.SCHEMA
)
PRODUCTS = "http://product-service:3001"


class NewCart(BaseModel):
    product_id: int
    quantity: int = Field(default=1, ge=1, le=1000)


class Cart(NewCart):
    id: int
    name: str
    total_cents: int


class Product(BaseModel):
    """As much of product-service's answer as a cart needs."""

    id: int
    name: str
    price_cents: int


def products_url() -> str:
    """By name; by the variable where names cannot work (see `shoal doctor`)."""
    try:
        socket.getaddrinfo("product-service", 3001)
    except socket.gaierror:
        return os.environ.get("PRODUCT_SERVICE_URL", PRODUCTS)
    return PRODUCTS


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.database = Database(data_folder() / "carts.db", SCHEMA)
    # trust_env off: the HTTP_PROXY of whoever started the shop knows nothing of its names.
    with httpx.Client(base_url=products_url(), timeout=2.0, trust_env=False) as client:
        app.state.products = client
        yield
    app.state.database.close()


app = FastAPI(title="cart-service", lifespan=lifespan)


def database(request: Request) -> Database:
    found: Database = request.app.state.database
    return found


def fetch_product(client: httpx.Client, product_id: int) -> Product:
    try:
        answer = client.get(f"/products/{product_id}")
    except httpx.HTTPError as error:
        raise HTTPException(503, f"product-service does not answer: {error}") from error
    if answer.status_code == 404:
        raise HTTPException(404, f"no product {product_id}")
    if not answer.is_success:
        raise HTTPException(502, f"product-service answered {answer.status_code}")
    return Product.model_validate_json(answer.content)


@app.get("/healthz")
def healthz(request: Request) -> dict[str, str]:
    with database(request).read() as connection:
        connection.execute("SELECT 1")
    return {"status": "ok"}


@app.post("/carts", status_code=201, response_model=Cart)
def create_cart(
    cart: NewCart, request: Request, idempotency_key: Annotated[str | None, Header(max_length=200)] = None
) -> Response:
    product = fetch_product(request.app.state.products, cart.product_id)
    with database(request).write() as connection:
        body = idempotency.once(
            connection, idempotency_key, cart.model_dump_json(), lambda: insert(connection, cart, product)
        )
    return Response(body, 201, media_type="application/json")


def insert(connection: sqlite3.Connection, cart: NewCart, product: Product) -> str:
    row = connection.execute(
        "INSERT INTO carts (product_id, name, quantity, total_cents) VALUES (?, ?, ?, ?) RETURNING *",
        (product.id, product.name, cart.quantity, cart.quantity * product.price_cents),
    ).fetchone()
    return Cart(**dict(row)).model_dump_json()


@app.get("/carts/{cart_id}")
def get_cart(cart_id: int, request: Request) -> Cart:
    with database(request).read() as connection:
        row = connection.execute("SELECT * FROM carts WHERE id = ?", (cart_id,)).fetchone()
    if row is None:
        raise HTTPException(404, f"no cart {cart_id}")
    return Cart(**dict(row))


@app.delete("/carts/{cart_id}", status_code=204)
def delete_cart(cart_id: int, request: Request) -> None:
    """Gone is gone: a DELETE that Envoy sends twice gets the same answer twice. 404 is for a cart that never was."""
    with database(request).write() as connection:
        connection.execute("DELETE FROM carts WHERE id = ?", (cart_id,))
        last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'carts'").fetchone()
    if not 0 < cart_id <= (last["seq"] if last else 0):
        raise HTTPException(404, f"no cart {cart_id}")
