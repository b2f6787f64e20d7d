"""Errors as problem details (RFC 9457), for FastAPI, Starlette and Flask.

    problems.install(app)
    raise problems.Problem(409, "Out of stock", type="out-of-stock", detail="2 nets are left", product_id=7)

An answer is `application/problem+json`: `type` (`about:blank` or a word), `title`, `status`, `detail` and what else
was given. What the framework refuses (404, 405, 422) is said in the same form, and an exception that nobody caught is
a 500 without its words, which are for the log.
"""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

MEDIA_TYPE = "application/problem+json"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
_log = logging.getLogger("shoal.sdk.problems")


class Problem(Exception):  # noqa: N818 - its name in RFC 9457
    """`type`: a word or URI that programs can tell it by; empty: the status says it all. `headers`: of the answer.
    `extensions`: further members, as JSON has them."""

    def __init__(
        self,
        status: int,
        title: str = "",
        *,
        detail: str = "",
        type: str = "",  # noqa: A002 - RFC 9457's own word
        headers: dict[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        self.status = status
        self.title = title or _phrase(status)
        self.detail, self.type, self.extensions = detail, type, extensions
        self.headers = headers or {}
        super().__init__(f"{status} {self.title}{': ' if detail else ''}{detail}")

    def body(self) -> dict[str, Any]:
        members = {"type": self.type or "about:blank", "title": self.title, "status": self.status}
        return self.extensions | members | ({"detail": self.detail} if self.detail else {})


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses=` for those statuses. 422 is said too: in this form it is what a request that does not fit
    the schema gets."""
    content = {MEDIA_TYPE: {"schema": SCHEMA}}
    return {status: {"description": _phrase(status), "content": content} for status in sorted({*statuses, 422})}


def install(app: Any) -> None:
    """TypeError: neither FastAPI, Starlette nor Flask."""
    if hasattr(app, "wsgi_app"):
        _install_flask(app)
    elif hasattr(app, "add_exception_handler"):
        _install_starlette(app)
    else:
        raise TypeError(f"problems.install knows FastAPI, Starlette and Flask, not {type(app).__name__}")


def _install_starlette(app: Any) -> None:
    from starlette.exceptions import HTTPException
    from starlette.responses import Response

    def answer(problem: Problem) -> Response:
        text = json.dumps(problem.body())
        return Response(text, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)

    async def on_problem(_: Any, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(error)

    async def on_http(request: Any, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code in (204, 304):
            return Response(status_code=error.status_code, headers=error.headers)
        detail = "" if error.detail == _phrase(error.status_code) else str(error.detail)
        headers = dict(error.headers or {})
        if error.status_code == 405 and (allowed := _allowed(request)):
            headers["Allow"] = allowed
        return answer(Problem(error.status_code, detail=detail, headers=headers))

    async def on_any(_: Any, error: Exception) -> Response:
        return answer(Problem(500))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_any)
    try:
        from fastapi import FastAPI
        from fastapi.exceptions import RequestValidationError
    except ImportError:
        return

    async def on_invalid(_: Any, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        flaws = [{"where": list(flaw["loc"]), "message": flaw["msg"]} for flaw in error.errors()]
        return answer(Problem(422, "The request does not fit", detail=_first(flaws), errors=flaws))

    if isinstance(app, FastAPI):
        app.add_exception_handler(RequestValidationError, on_invalid)


def _allowed(request: Any) -> str:
    """The methods of all routes of that path; Starlette names those of the first one only."""
    from starlette.routing import Match, Mount

    # Each is tried: a router within the router does not say its routes' methods. What is mounted takes them all.
    routes = [route for route in request.scope["app"].routes if not isinstance(route, Mount)]
    return ", ".join(
        method
        for method in ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    )


def _install_flask(app: Any) -> None:
    from flask import Response
    from werkzeug.exceptions import HTTPException

    def answer(problem: Problem) -> Response:
        made = Response(json.dumps(problem.body()), problem.status, mimetype=MEDIA_TYPE)
        made.headers.extend(problem.headers)
        return made

    def on_http(error: HTTPException) -> Any:
        if error.code is None or error.code < 400 or error.response is not None:
            return error
        headers = {
            name: value for name, value in error.get_headers() if name.lower() not in ("content-type", "content-length")
        }
        return answer(Problem(error.code, error.name, detail=error.description or "", headers=headers))

    def on_any(error: Exception) -> Response:
        _log.error("%s", error, exc_info=error)
        return answer(Problem(500))

    app.register_error_handler(Problem, answer)
    app.register_error_handler(HTTPException, on_http)
    app.register_error_handler(Exception, on_any)


def _first(flaws: list[dict[str, Any]]) -> str:
    if not flaws:
        return ""
    more = f" (and {len(flaws) - 1} more)" if len(flaws) > 1 else ""
    return f"{'.'.join(str(part) for part in flaws[0]['where'])}: {flaws[0]['message']}{more}"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"
