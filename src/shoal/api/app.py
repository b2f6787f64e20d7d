"""The ASGI application: the table of operations, wired to their handlers; every failure is a problem document."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from shoal.api.handlers import HANDLERS, Handler
from shoal.api.operations import OPERATIONS, Operation
from shoal.api.plane import CommandsLike, FeedLike, Plane
from shoal.api.problems import MethodError, problem
from shoal.api.requests import Call
from shoal.errors import NotFoundError, ShoalError, UsageError
from shoal.ports import Store

__all__ = ["CommandsLike", "FeedLike", "create_app"]

_log = logging.getLogger("shoal.api")


def create_app(commands: CommandsLike, store: Store, feed: FeedLike, logs_folder: Path) -> Starlette:
    """`app.state.plane.closing` is the event that ends its streams; `api.server.serve` sets it."""
    plane = Plane(commands=commands, store=store, feed=feed, logs=logs_folder)
    app = Starlette(
        routes=[
            Route(operation.path, _endpoint(plane, operation, HANDLERS[operation.id]), methods=[operation.method])
            for operation in OPERATIONS
        ],
        exception_handlers={HTTPException: _not_routed},
    )
    app.router.redirect_slashes = False
    app.state.plane = plane
    return app


def _endpoint(plane: Plane, operation: Operation, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(plane, Call(operation, request))
        except ShoalError as error:
            return problem(error)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception:
            # What went wrong may hold secrets of an environment; it belongs into the log, not into the answer.
            _log.exception("%s %s failed", operation.method, request.url.path)
            words = f"Shoal failed at {operation.method} {request.url.path}; this is a defect of Shoal"
            return problem(ShoalError(words, way_out="see the traceback: shoal logs daemon"))

    return endpoint


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return problem(MethodError(f"{where}: there is no such method", way_out=f"use {allowed}"), {"allow": allowed})
    if error.status_code == 404:
        return problem(NotFoundError(f"{where}: there is nothing", way_out="GET /v1/openapi.json lists what there is"))
    return problem(UsageError(f"{where}: {error.detail}"))
