"""One function for each operation: from the request to the answer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing

from pydantic_core import PydanticSerializationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from shoal.api.admission import admit
from shoal.api.events import entries
from shoal.api.log_files import OWN, sources
from shoal.api.logs import log_lines
from shoal.api.openapi import document
from shoal.api.operations import JSON, LINES, STREAM, DeployRequest, EventList, Nothing, Operation, ScaleRequest
from shoal.api.plane import Plane
from shoal.api.problems import problem
from shoal.api.requests import Query, read_body
from shoal.errors import ShoalError, UsageError
from shoal.spec import wire

Handler = Callable[[Plane, Operation, Request], Awaitable[Response]]


async def _get_app(plane: Plane, operation: Operation, request: Request) -> Response:
    return _answer(operation, plane.commands.status())


async def _deploy(plane: Plane, operation: Operation, request: Request) -> Response:
    app = (await read_body(request, DeployRequest, operation.body_max)).app
    admit(app)
    return _answer(operation, await plane.commands.deploy(app))


async def _down(plane: Plane, operation: Operation, request: Request) -> Response:
    await plane.commands.down()
    return _answer(operation, Nothing())


async def _explain(plane: Plane, operation: Operation, request: Request) -> Response:
    return _answer(operation, plane.commands.explain(request.path_params["name"]))


async def _scale(plane: Plane, operation: Operation, request: Request) -> Response:
    wanted = await read_body(request, ScaleRequest, operation.body_max)
    return _answer(operation, await plane.commands.scale(request.path_params["name"], wanted.replicas))


async def _restart(plane: Plane, operation: Operation, request: Request) -> Response:
    return _answer(operation, await plane.commands.restart(request.path_params["name"]))


async def _exec_context(plane: Plane, operation: Operation, request: Request) -> Response:
    return _answer(operation, plane.commands.exec_context(request.path_params["name"]))


async def _logs(plane: Plane, operation: Operation, request: Request) -> Response:
    query = Query(operation, request)
    name: str = request.path_params["name"]
    if name not in OWN:
        plane.commands.explain(name)  # NotFoundError, with what it may have meant
    replica, tail = query.text("replica"), query.number("tail")
    assert tail is not None
    sources(plane.logs, name, replica)  # UsageError, while it can still be the answer
    batches = log_lines(
        plane.logs,
        name,
        replica,
        tail=tail,
        since=query.text("since") or "",
        follow=bool(query.flag("follow")),
        closing=plane.closing,
    )

    async def body() -> AsyncGenerator[bytes]:
        async with aclosing(batches):
            async for batch in batches:
                yield b"".join(_json(line) + b"\n" for line in batch) or b"\n"

    return _Stream(body(), LINES)


async def _events(plane: Plane, operation: Operation, request: Request) -> Response:
    query = Query(operation, request)
    after, limit, subject, follow = (
        query.number("after"),
        query.number("limit"),
        query.text("subject"),
        query.flag("follow"),
    )
    assert after is not None and limit is not None
    if STREAM not in request.headers.get("accept", ""):
        if follow:
            raise UsageError("a list cannot be followed", way_out=f"ask with 'Accept: {STREAM}'")
        found = plane.store.journal(after=after, limit=limit, subject=subject)
        return _answer(operation, EventList(events=tuple(found)))
    last_seen = query.number("Last-Event-ID")
    batches = entries(
        plane.store,
        plane.feed,
        after=after if last_seen is None else last_seen,
        subject=subject,
        follow=follow is not False,
        closing=plane.closing,
    )

    async def body() -> AsyncGenerator[bytes]:
        yield b"retry: 500\n\n"
        async with aclosing(batches):
            try:
                async for batch in batches:
                    yield b"".join(b"id: %d\ndata: %s\n\n" % (e.sequence, _json(e)) for e in batch) or b":keepalive\n\n"
            except ShoalError as error:
                yield b"event: error\ndata: %s\n\n" % bytes(problem(error).body)

    return _Stream(body(), STREAM)


async def _openapi(plane: Plane, operation: Operation, request: Request) -> Response:
    return Response(json.dumps(document()).encode(), media_type=JSON)


HANDLERS: Mapping[str, Handler] = {
    "getApp": _get_app,
    "deploy": _deploy,
    "down": _down,
    "explain": _explain,
    "scale": _scale,
    "restart": _restart,
    "logs": _logs,
    "execContext": _exec_context,
    "events": _events,
    "openapi": _openapi,
}
"""By operation id."""


def _answer(operation: Operation, value: object) -> Response:
    return Response(_json(value), status_code=operation.status, media_type=JSON)


def _json(value: object) -> bytes:
    try:
        return wire.encode(value).encode()
    except PydanticSerializationError:
        # Bytes of a log or a file name that are no UTF-8; escaped, they get through.
        assert dataclasses.is_dataclass(value) and not isinstance(value, type)
        return json.dumps(dataclasses.asdict(value)).encode()


class _Stream(StreamingResponse):
    """Closes its body when the reader goes away, rather than when the garbage collector comes by."""

    def __init__(self, body: AsyncGenerator[bytes], media_type: str) -> None:
        super().__init__(body, media_type=media_type, headers={"cache-control": "no-store"})
        self._body = body

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._body):
            await super().stream_response(send)
