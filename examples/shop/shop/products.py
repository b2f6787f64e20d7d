"""product-service: `GET` and `POST /products`, `GET /products/{id}`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

from shop.database import Database, data_folder

SCHEMA = """
CREATE TABLE IF NOT EXISTS products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price_cents INTEGER NOT NULL);
"""
NEWEST = 100
"""How many a list shows."""


class NewProduct(BaseModel):
    name: str = Field(min_length=1, max_length=200)
    price_cents: int = Field(ge=0, le=10**9)


class Product(NewProduct):
    id: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.database = Database(data_folder() / "products.db", SCHEMA)
    yield
    app.state.database.close()


app = FastAPI(title="product-service", lifespan=lifespan)


def database(request: Request) -> Database:
    found: Database = request.app.state.database
    return found


@app.get("/healthz")
def healthz(request: Request) -> dict[str, str]:
    with database(request).read() as connection:
        connection.execute("SELECT 1")
    return {"status": "ok"}


@app.get("/products")
def list_products(request: Request) -> list[Product]:
    """The newest first."""
    with database(request).read() as connection:
        rows = connection.execute("SELECT * FROM products ORDER BY id DESC LIMIT ?", (NEWEST,)).fetchall()
    return [Product(**dict(row)) for row in rows]


@app.post("/products", status_code=201)
def add_product(product: NewProduct, request: Request) -> Product:
    with database(request).write() as connection:
        row = connection.execute(
            "INSERT INTO products (name, price_cents) VALUES (?, ?) RETURNING *", (product.name, product.price_cents)
        ).fetchone()
    return Product(**dict(row))


@app.get("/products/{product_id}")
def get_product(product_id: int, request: Request) -> Product:
    with database(request).read() as connection:
        row = connection.execute("SELECT * FROM products WHERE id = ?", (product_id,)).fetchone()
    if row is None:
        raise HTTPException(404, f"no product {product_id}")
    return Product(**dict(row))
