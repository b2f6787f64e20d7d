"""The application: what it is made of, and for how long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from fastapi import FastAPI
from sqlalchemy import text

from carts import events, routes, sweeper
from carts.checkout import Checkout
from carts.identity import Identity
from carts.models import outbox
from carts.product_service import ProductService
from shoal.sdk import database, deadline, health, problems
from shoal.sdk.outbox import Relay


def create_app(*, transport: httpx.AsyncBaseTransport | None = None, identity: Identity | None = None) -> FastAPI:
    """`transport`: to product-service, `identity`: who knows the users; tests have others."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = database.engine()
        sessions = database.Transactions(engine)
        products = ProductService(transport=transport)
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
    health.install(app, ready=database_answers)
    app.include_router(routes.router)
    return app


app = create_app()
