"""The service over HTTP. What is behind `/reservations` is for cart-service and stands at no gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.security import HTTPBearer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from products import catalogue, reservations, schemas
from products.identity import Identity
from products.models import Product, outbox
from products.models import Reservation as ReservationRow
from shoal.sdk import database, deadline, health, problems
from shoal.sdk.database import Transactions
from shoal.sdk.inbox import Event, Inbox
from shoal.sdk.outbox import Relay
from shoal.sdk.problems import Problem
from shoal.sdk.tokens import refused


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    engine = database.engine()
    app.state.transactions = Transactions(engine)
    app.state.identity = Identity()
    inbox = app.state.inbox = Inbox(engine, name="product-service")
    inbox.on("cart-service", "order.paid")(order_paid)
    try:
        async with Relay(outbox, engine), inbox:
            yield
    finally:
        await engine.dispose()


app = FastAPI(title="product-service", lifespan=lifespan)
app.add_middleware(deadline.Middleware)
problems.install(app)


async def database_answers() -> None:
    async with app.state.transactions.begin() as session:
        await session.execute(text("SELECT 1"))


health.install(app, ready=database_answers)


def transactions(request: Request) -> Transactions:
    found: Transactions = request.app.state.transactions
    return found


async def staff(request: Request) -> None:
    user = await request.app.state.identity.user(request.headers.get("authorization"))
    if user is None:
        raise refused("log in, and send 'Authorization: Bearer TOKEN'")
    if "staff" not in user.roles:
        raise Problem(403, detail=f"{user.name} is not of the staff")


Database = Annotated[Transactions, Depends(transactions)]
ProductId = Annotated[schemas.Id, Path()]
STAFF = (Depends(HTTPBearer(auto_error=False)), Depends(staff))


@app.get("/products", responses=problems.responses(503))
async def list_products(query: Annotated[schemas.PageQuery, Query()], db: Database) -> schemas.Page:
    """The newest first."""
    async with db.begin() as session:
        found, total = await catalogue.find(session, query.search, page=query.page, size=query.size)
    items = [schemas.Product.model_validate(product) for product in found]
    return schemas.Page(items=items, total=total, page=query.page, size=query.size)


@app.get("/products/{product_id}", responses=problems.responses(404, 503))
async def get_product(product_id: ProductId, db: Database) -> schemas.Product:
    async with db.begin() as session:
        return shown(product_id, await session.get(Product, product_id))


@app.post("/products", status_code=201, dependencies=STAFF, responses=problems.responses(400, 401, 403, 503))
async def add_product(new: schemas.NewProduct, db: Database) -> schemas.Product:
    async with db.begin() as session:
        return schemas.Product.model_validate(await catalogue.add(session, new))


@app.patch("/products/{product_id}", dependencies=STAFF, responses=problems.responses(400, 401, 403, 404, 503))
async def change_product(product_id: ProductId, change: schemas.Change, db: Database) -> schemas.Product:
    async with db.begin() as session:
        return shown(product_id, await catalogue.change(session, product_id, change))


@app.put("/products/{product_id}/stock", dependencies=STAFF, responses=problems.responses(400, 401, 403, 404, 503))
async def set_stock(product_id: ProductId, new: schemas.NewStock, db: Database) -> schemas.Product:
    """How many there are besides those that are reserved."""
    async with db.begin() as session:
        return shown(product_id, await catalogue.set_stock(session, product_id, new.stock))


@app.put(
    "/reservations/{order_id}",
    status_code=201,
    responses={200: {"model": schemas.Reservation, "description": "Was made before"}}
    | problems.responses(400, 409, 503),
)
async def reserve(order_id: UUID, order: schemas.Order, response: Response, db: Database) -> schemas.Reservation:
    """All lines or none; the same again changes nothing."""
    async with db.begin() as session:
        made, is_new = await reservations.reserve(session, str(order_id), order.quantities())
        answer = await told(session, made)
    response.status_code = 201 if is_new else 200
    return answer


@app.delete("/reservations/{order_id}", status_code=204, responses=problems.responses(503))
async def release(order_id: UUID, db: Database) -> None:
    """Gives its stock back, once; nothing can be reserved by this id any more."""
    async with db.begin() as session:
        await reservations.release(session, str(order_id))


async def order_paid(event: Event, session: AsyncSession) -> None:
    await reservations.sell(session, str(UUID(event.data["order_id"])))


def shown(product_id: int, product: Product | None) -> schemas.Product:
    if product is None:
        raise Problem(404, detail=f"there is no product {product_id}")
    return schemas.Product.model_validate(product)


async def told(session: AsyncSession, reservation: ReservationRow) -> schemas.Reservation:
    kept = await reservations.lines(session, reservation.order_id)
    lines = [schemas.ReservedLine(product_id=product_id, quantity=quantity) for product_id, quantity in kept.items()]
    return schemas.Reservation(order_id=reservation.order_id, status=reservation.status, lines=lines)
