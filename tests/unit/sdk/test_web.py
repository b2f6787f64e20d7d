"""Problems, health and deadlines in Starlette, FastAPI and Flask, asked without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import flask
import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shoal.sdk import context, deadline, health, problems

Ask = Callable[..., httpx.Response]


async def _sold_out(_: Request) -> Response:
    raise problems.Problem(
        409, "Out of stock", type="out-of-stock", detail="2 left", headers={"retry-after": "9"}, product_id=7
    )


async def _gone(_: Request) -> Response:
    raise HTTPException(410)


async def _bug(_: Request) -> Response:
    raise RuntimeError("secret words")


async def _context(_: Request) -> Response:
    return JSONResponse({**context.headers(), "left": deadline.remaining_s(100.0)})


ROUTES = {"/sold-out": _sold_out, "/gone": _gone, "/bug": _bug, "/context": _context}
well = True


async def _ready() -> bool:
    if not well:
        raise ConnectionError("the database is away")
    return True


def _starlette() -> Any:
    routes = [Route(path, handler) for path, handler in ROUTES.items()]
    return Starlette(routes=[*routes, Route("/gone", _gone, methods=["DELETE"])])


def _fastapi() -> Any:
    app = FastAPI()

    @app.get("/items/{number}")
    def item(number: int) -> int:
        return number

    for path, handler in ROUTES.items():
        app.add_route(path, handler)
    router = APIRouter()
    router.delete("/gone")(_gone)
    app.include_router(router)
    return app


def _flask() -> Any:
    app = flask.Flask("test")

    @app.get("/sold-out")
    def sold_out() -> str:
        raise problems.Problem(
            409, "Out of stock", type="out-of-stock", detail="2 left", headers={"retry-after": "9"}, product_id=7
        )

    @app.get("/gone")
    @app.delete("/gone")
    def gone() -> str:
        flask.abort(410)

    @app.get("/bug")
    def bug() -> str:
        raise RuntimeError("secret words")

    @app.get("/context")
    def told() -> Any:
        return {**context.headers(), "left": deadline.remaining_s(100.0)}

    return app


def _ask_asgi(app: Any) -> Ask:
    def ask(method: str, path: str, **more: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **more)

        return asyncio.run(run())

    return ask


def _ask_wsgi(app: Any) -> Ask:
    def ask(method: str, path: str, **more: Any) -> httpx.Response:
        with httpx.Client(transport=httpx.WSGITransport(app), base_url="http://test") as client:
            return client.request(method, path, **more)

    return ask


@pytest.fixture(params=["starlette", "fastapi", "flask"])
def ask(request: pytest.FixtureRequest) -> Ask:
    app = {"starlette": _starlette, "fastapi": _fastapi, "flask": _flask}[request.param]()
    problems.install(app)
    if request.param == "flask":
        health.install(app, ready=lambda: asyncio.run(_ready()))
        app.wsgi_app = deadline.WsgiMiddleware(app.wsgi_app)
        return _ask_wsgi(app)
    health.install(app, ready=_ready)
    app.add_middleware(deadline.Middleware)
    return _ask_asgi(app)


def test_a_method_that_a_path_does_not_have_is_answered_by_all_that_it_has(ask: Ask) -> None:
    answer = ask("PUT", "/gone")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) - {"HEAD", "OPTIONS"} == {"GET", "DELETE"}


def test_a_problem_is_said_in_the_words_of_rfc_9457(ask: Ask) -> None:
    answer = ask("GET", "/sold-out")
    assert answer.status_code == 409
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    assert answer.headers["retry-after"] == "9"
    assert answer.json() == {
        "type": "out-of-stock", "title": "Out of stock", "status": 409, "detail": "2 left", "product_id": 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/gone", 410), ("GET", "/no", 404), ("POST", "/gone", 405)]
)
def test_what_the_framework_refuses_is_said_so_too(ask: Ask, method: str, path: str, status: int) -> None:
    answer = ask(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    assert answer.json()["status"] == status
    if status == 405:
        assert "GET" in answer.headers["allow"]


def test_a_bug_keeps_its_words_for_the_log(ask: Ask) -> None:
    answer = ask("GET", "/bug")
    assert answer.json() == {"type": "about:blank", "title": "Internal Server Error", "status": 500}


def test_a_request_that_does_not_fit_says_where() -> None:
    app = _fastapi()
    problems.install(app)
    answer = _ask_asgi(app)("GET", "/items/x")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith("path.number: ")
    assert answer.json()["errors"][0]["where"] == ["path", "number"]


def test_ready_follows_what_it_is_asked_and_alive_does_not(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [ask("GET", path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    monkeypatch.setattr(f"{__name__}.well", False)
    assert [ask("GET", path).status_code for path in ("/healthz", "/readyz")] == [200, 503]


def test_a_request_brings_its_deadline_and_its_trace(ask: Ask) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    told = ask("GET", "/context", headers={"x-shoal-deadline": "60000", "traceparent": trace}).json()
    assert told["traceparent"] == trace
    assert 0 < int(told["x-shoal-deadline"]) <= 60000
    assert 0 < told["left"] <= 60
    assert ask("GET", "/context").json() == {"left": 100.0}


@pytest.mark.parametrize("install", [problems.install, health.install])
def test_other_frameworks_are_named(install: Callable[[Any], None]) -> None:
    with pytest.raises(TypeError, match="FastAPI, Starlette and Flask, not object"):
        install(object())
