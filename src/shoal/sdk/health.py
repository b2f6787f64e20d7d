"""`/healthz` and `/readyz`, as Shoal's `liveness:` and `health:` ask for them.

    health.install(app, ready=database_answers)

`/healthz` looks at nothing but the process: it answers while the process can. `/readyz` is 503 while `ready` raises,
returns False or takes longer than 2 s: requests then go to other replicas, and nobody is restarted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

Ready = Callable[[], Awaitable[Any]]
READY_S = 2.0
_log = logging.getLogger("shoal.sdk.health")


def install(app: Any, *, ready: Ready | Callable[[], Any] | None = None) -> None:
    """For FastAPI, Starlette (`ready` is a coroutine function) and Flask (a function). TypeError: neither."""
    if hasattr(app, "wsgi_app"):
        _install_flask(app, ready)
    elif hasattr(app, "add_route"):
        _install_starlette(app, ready)
    else:
        raise TypeError(f"health.install knows FastAPI, Starlette and Flask, not {type(app).__name__}")


def _install_starlette(app: Any, ready: Ready | None) -> None:
    from starlette.responses import JSONResponse

    async def healthz(_: Any) -> Any:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Any) -> Any:
        try:
            well = ready is None or await asyncio.wait_for(ready(), READY_S) is not False
        except Exception as error:
            _log.warning("not ready: %r", error)
            well = False
        return JSONResponse({"status": "ok" if well else "unavailable"}, 200 if well else 503)

    app.add_route("/healthz", healthz)
    app.add_route("/readyz", readyz)


def _install_flask(app: Any, ready: Callable[[], Any] | None) -> None:
    def healthz() -> Any:
        return {"status": "ok"}

    def readyz() -> Any:
        try:
            well = ready is None or ready() is not False
        except Exception as error:
            _log.warning("not ready: %r", error)
            well = False
        return {"status": "ok" if well else "unavailable"}, 200 if well else 503

    app.add_url_rule("/healthz", "healthz", healthz)
    app.add_url_rule("/readyz", "readyz", readyz)
