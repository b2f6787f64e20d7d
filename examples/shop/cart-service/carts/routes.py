"""The HTTP API of cart-service."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.security import HTTPBearer

from carts import baskets, catalogue, customers, orders, schemas
from carts.checkout import Checkout, Wish
from carts.identity import Identity, User
from carts.models import Cart, CartStatus, Order, idempotency
from carts.product_service import ProductService
from shoal.sdk import problems
from shoal.sdk.database import Transactions
from shoal.sdk.idempotency import Answer
from shoal.sdk.problems import Problem
from shoal.sdk.tokens import refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the routes work with while the application runs."""

    sessions: Transactions
    products: ProductService
    checkout: Checkout
    identity: Identity


def parts(request: Request) -> Parts:
    found: Parts = request.app.state.parts
    return found


Running = Annotated[Parts, Depends(parts)]


async def visitor(request: Request, parts: Running) -> User | None:
    """Who asks, if they say so."""
    return await parts.identity.user(request.headers.get("authorization"))


async def customer(visitor: Annotated[User | None, Depends(visitor)]) -> User:
    if visitor is None:
        raise refused("log in first")
    return visitor


Visitor = Annotated[User | None, Depends(visitor)]
Customer = Annotated[User, Depends(customer)]
ProductId = Annotated[int, Path(ge=1, le=2**31 - 1)]
Key = Annotated[schemas.Key, Header(alias="Idempotency-Key")]
OptionalKey = Annotated[schemas.Key | None, Header(alias="Idempotency-Key")]

router = APIRouter()
# For the OpenAPI document alone; `visitor` reads the header as it came.
LOGGED_IN: list[Any] = [Depends(HTTPBearer(auto_error=False))]
LOGGED_IN_OR_NOT = {"security": [{}, {"HTTPBearer": []}]}


@router.post("/carts", status_code=201, responses=problems.responses(401), openapi_extra=LOGGED_IN_OR_NOT)
async def create_cart(parts: Running, visitor: Visitor) -> schemas.Cart:
    """Of whoever is logged in; otherwise of whoever knows its id."""
    async with parts.sessions.begin() as session:
        if visitor is not None:
            await customers.enter(session, visitor.id)
        cart = Cart(
            id=str(uuid.uuid4()),
            user_id=visitor.id if visitor else None,
            status=CartStatus.OPEN,
            created_at=time.time(),
        )
        session.add(cart)
    return schemas.Cart.of(cart, [])


@router.get("/carts/{cart_id}", responses=problems.responses(401, 404), openapi_extra=LOGGED_IN_OR_NOT)
async def show_cart(cart_id: UUID, parts: Running, visitor: Visitor) -> schemas.Cart:
    """With names and prices as they were last told; product-service is not asked."""
    async with parts.sessions.begin() as session:
        return await baskets.show(session, await baskets.visible(session, str(cart_id), visitor))


@router.delete(
    "/carts/{cart_id}", status_code=204, responses=problems.responses(401, 404, 409), openapi_extra=LOGGED_IN_OR_NOT
)
async def delete_cart(cart_id: UUID, parts: Running, visitor: Visitor) -> None:
    """Gone is gone: sent twice, it is answered twice alike. An order that the cart has become stays."""
    async with parts.sessions.begin() as session:
        if await session.get(Cart, str(cart_id)) is None:
            return
        cart = await baskets.visible(session, str(cart_id), visitor, lock=True)
        if cart.status == CartStatus.CHECKING_OUT:
            raise baskets.closed(cart)
        await session.delete(cart)


@router.put(
    "/carts/{cart_id}/items/{product_id}",
    responses=problems.responses(400, 401, 404, 409, 503),
    openapi_extra=LOGGED_IN_OR_NOT,
)
async def put_item(
    cart_id: UUID, product_id: ProductId, wanted: schemas.Wanted, parts: Running, visitor: Visitor
) -> schemas.Cart:
    await know(parts, str(cart_id), visitor, product_id)
    async with parts.sessions.begin() as session:
        cart = await baskets.changeable(session, str(cart_id), visitor)
        await baskets.put(session, cart, product_id, wanted.quantity)
        return await baskets.show(session, cart)


@router.post(
    "/carts/{cart_id}/items",
    response_model=schemas.Cart,
    responses=problems.responses(400, 401, 404, 409, 503),
    openapi_extra=LOGGED_IN_OR_NOT,
)
async def add_item(
    cart_id: UUID, new: schemas.NewItem, parts: Running, visitor: Visitor, key: OptionalKey = None
) -> Response:
    """So many more. With an Idempotency-Key, what is sent twice is added once."""
    await know(parts, str(cart_id), visitor, new.product_id)

    async def add() -> Answer:
        cart = await baskets.changeable(session, str(cart_id), visitor)
        await baskets.put(session, cart, new.product_id, new.quantity, add=True)
        return Answer(200, (await baskets.show(session, cart)).model_dump_json())

    async with parts.sessions.begin() as session:
        if key is None:
            answer = await add()
        else:
            # Under the cart's id: another's cart is another's, whatever keys they make up.
            answer = await idempotency.once(session, f"{cart_id}/{key}", fingerprint=new.model_dump_json(), work=add)
    return Response(answer.body, answer.status, media_type="application/json")


@router.delete(
    "/carts/{cart_id}/items/{product_id}",
    status_code=204,
    responses=problems.responses(401, 404, 409),
    openapi_extra=LOGGED_IN_OR_NOT,
)
async def remove_item(cart_id: UUID, product_id: ProductId, parts: Running, visitor: Visitor) -> None:
    async with parts.sessions.begin() as session:
        cart = await baskets.changeable(session, str(cart_id), visitor)
        await baskets.remove(session, cart, product_id)


@router.post(
    "/carts/{cart_id}/checkout",
    status_code=201,
    responses=problems.responses(400, 401, 404, 409, 503),
    dependencies=LOGGED_IN,
)
async def check_out(
    cart_id: UUID, new: schemas.NewOrder, parts: Running, customer: Customer, key: Key
) -> schemas.Order:
    """Buys what is in the cart. Sent again with the same Idempotency-Key: the same order, charged once.

    409 `out-of-stock` and 503: nothing is charged, and the cart is open again.
    """
    wish = Wish(user=customer, cart_id=str(cart_id), ship_to=new.ship_to, key=key)
    return schemas.Order.of(await parts.checkout.check_out(wish))


@router.get("/orders", responses=problems.responses(401), dependencies=LOGGED_IN)
async def list_orders(parts: Running, customer: Customer) -> list[schemas.Order]:
    """Mine, the newest first."""
    async with parts.sessions.begin() as session:
        return [schemas.Order.of(order) for order in await orders.of_user(session, customer.id)]


@router.get("/orders/{order_id}", responses=problems.responses(401, 404), dependencies=LOGGED_IN)
async def show_order(order_id: UUID, parts: Running, customer: Customer) -> schemas.Order:
    async with parts.sessions.begin() as session:
        order = await session.get(Order, str(order_id))
    if order is None or order.user_id != customer.id:
        raise Problem(404, "Unknown order", type="unknown-order", detail=f"you have no order {order_id}")
    return schemas.Order.of(order)


async def know(parts: Parts, cart_id: str, visitor: User | None, product_id: int) -> None:
    """Asks product-service for what no event has told yet; for a cart that can take it, and outside of transactions.

    Problem 404, 409, 503.
    """
    async with parts.sessions.begin() as session:
        await baskets.visible(session, cart_id, visitor)
        if await catalogue.knows(session, product_id):
            return
        await baskets.changeable(session, cart_id, visitor)
    product = await parts.products.product(product_id)
    async with parts.sessions.begin() as session:
        await catalogue.remember(session, product)
