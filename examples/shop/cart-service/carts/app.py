"""The application: what it is made of, and for how long."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import async_sessionmaker

from carts import events, product_service, routes, sweeper
from carts.checkout import Checkout
from carts.identity import Identity
from carts.models import outbox
from carts.product_service import ProductService
from shoal.sdk import database, deadline, health, problems
from shoal.sdk.outbox import Relay

_log = logging.getLogger(__name__)


def create_app(*, transport: httpx.AsyncBaseTransport | None = None, identity: Identity | None = None) -> FastAPI:
    """`transport`: to product-service, `identity`: who knows the users; tests have others."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = database.engine()
        sessions = async_sessionmaker(engine, expire_on_commit=False)
        products = ProductService(await product_service.found_url(), transport=transport)
        checkout = Checkout(sessions, products)
        app.state.engine = engine
        app.state.parts = routes.Parts(
            sessions=sessions, products=products, checkout=checkout, identity=identity or Identity()
        )
        async with AsyncExitStack() as stack:
            stack.push_async_callback(engine.dispose)
            stack.push_async_callback(products.close)
            await stack.enter_async_context(Relay(outbox, engine))
            await stack.enter_async_context(events.inbox(engine))
            await stack.enter_async_context(sweeper.sweeping(checkout, sessions))
            yield

    async def database_answers() -> None:
        async with app.state.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    app = FastAPI(title="cart-service", version="1.0.0", lifespan=lifespan)
    app.add_middleware(deadline.Middleware)
    problems.install(app)
    app.add_exception_handler(DBAPIError, database_away)
    app.add_exception_handler(OSError, database_away)
    health.install(app, ready=database_answers)
    app.include_router(routes.router)
    return app


async def database_away(_: Request, error: Exception) -> Response:
    """Said as what passes: a request with an Idempotency-Key is sent again by Envoy, to another replica."""
    if isinstance(error, DBAPIError) and type(error) not in (DBAPIError, OperationalError, InterfaceError):
        raise error  # our own mistake: a 500
    _log.warning("the database is away: %r", error)
    away = problems.Problem(503, "The database is away", headers={"Retry-After": "1"})
    return JSONResponse(away.body(), 503, headers=away.headers, media_type=problems.MEDIA_TYPE)


app = create_app()
