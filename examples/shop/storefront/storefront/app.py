"""The shop's pages, for a browser with or without JavaScript."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from shoal.sdk import deadline, health
from storefront import account, buying, catalogue
from storefront.page import AWAY, HERE, basket_or_none, render
from storefront.services import AwayError, RefusedError, Services

ROUTES = [
    Route("/", catalogue.goods),
    Route("/item/{product_id:int}", catalogue.item),
    Route("/art/{name}", catalogue.picture),
    Route("/basket", buying.show_basket),
    Route("/basket", buying.add, methods=["POST"]),
    Route("/basket/change", buying.change, methods=["POST"]),
    Route("/checkout", buying.show_checkout),
    Route("/checkout", buying.check_out, methods=["POST"]),
    Route("/thanks/{order_id}", buying.thanks),
    Route("/sign-up", account.show_sign_up),
    Route("/sign-up", account.sign_up, methods=["POST"]),
    Route("/sign-in", account.show_sign_in),
    Route("/sign-in", account.sign_in, methods=["POST"]),
    Route("/sign-out", account.sign_out, methods=["POST"]),
    Route("/account", account.show_account),
    Route("/account/delete", account.delete_account, methods=["POST"]),
    Mount("/static", StaticFiles(directory=HERE / "static")),
]
WORDS = {
    404: ("There is no such page", "It may have been taken off the shelf."),
    403: ("That came from another site", "For your safety we did nothing with it. Please go back and try again."),
}


def make_app(transport: httpx.AsyncBaseTransport | None = None) -> Starlette:
    """`transport`: in the place of the network, for tests."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.services = Services(transport)
        yield
        await app.state.services.close()

    handlers = {HTTPException: sorry, RefusedError: refused, AwayError: away}
    app = Starlette(routes=ROUTES, lifespan=lifespan, exception_handlers=handlers)
    health.install(app)  # ready whoever else is away: its pages say so
    app.add_middleware(deadline.Middleware)
    return app


async def sorry(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title, words = WORDS.get(error.status_code, ("That did not work", "Please go back and try again."))
    cart = await basket_or_none(request)
    response = render(request, "sorry.html", status=error.status_code, cart=cart, title=title, words=words)
    response.headers.update(error.headers or {})
    return response


async def refused(request: Request, error: Exception) -> Response:
    """What no page has words of its own for."""
    assert isinstance(error, RefusedError)
    return await sorry(request, HTTPException(404 if error.status == 404 else 400))


async def away(request: Request, error: Exception) -> Response:
    assert isinstance(error, AwayError)
    cart = await basket_or_none(request)
    return render(request, "sorry.html", cart=cart, title="One moment, please", words=AWAY[error.service])


app = make_app()
