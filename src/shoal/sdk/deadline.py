"""How long the caller still waits: a callee that knows need not work for somebody who has left.

    app.add_middleware(deadline.Middleware)                                   # Starlette, FastAPI, any ASGI
    await client.get(url, headers=context.headers(), timeout=deadline.remaining_s(2.0))

The header `x-shoal-deadline` holds milliseconds, counted from the arrival of the request. Between services Envoy sets
it to the time-out of the route, unless the caller has said less.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from shoal.sdk import context

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


class DeadlineError(TimeoutError):
    """Nobody waits for the answer any more."""


def remaining_s(default: float) -> float:
    """Seconds until the caller leaves, `default` at the most. DeadlineError: it has left."""
    ends_at = context.current().ends_at
    if ends_at is None:
        return default
    left = ends_at - time.monotonic()
    if left <= 0:
        raise DeadlineError("the caller has stopped waiting")
    return min(default, left)


class Middleware:
    """Reads deadline and trace of each request, for `remaining_s` and `context.headers`."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        wanted = (context.DEADLINE_HEADER, *context.TRACE_HEADERS)
        found = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with context.serving(context.of_headers(*(found.get(name, "") for name in wanted))):
            await self._app(scope, receive, send)


class WsgiMiddleware:
    """The same for Flask and Django: `app.wsgi_app = WsgiMiddleware(app.wsgi_app)`. What the application streams after
    it has returned is outside of it."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        wanted = (context.DEADLINE_HEADER, *context.TRACE_HEADERS)
        keys = ("HTTP_" + name.upper().replace("-", "_") for name in wanted)
        with context.serving(context.of_headers(*(environ.get(key, "") for key in keys))):
            return self._app(environ, start_response)
