"""One function for each operation: from the request to the answer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing

from pydantic_core import PydanticSerializationError
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from shoal.api import metrics
from shoal.api.events import entries
from shoal.api.log_files import OWN, sources
from shoal.api.logs import log_lines
from shoal.api.openapi import document
from shoal.api.operations import (
    JSON,
    LINES,
    STREAM,
    DeployRequest,
    DiffRequest,
    DownRequest,
    EventList,
    Nothing,
    RollbackRequest,
    ScaleRequest,
)
from shoal.api.plane import Plane
from shoal.api.problems import problem
from shoal.api.requests import Call
from shoal.errors import ShoalError, UsageError
from shoal.spec import wire

Handler = Callable[[Plane, Call], Awaitable[Response]]


async def _get_app(plane: Plane, call: Call) -> Response:
    await plane.commands.look_at_lag()
    return _answer(call, plane.commands.status())


async def _metrics(plane: Plane, call: Call) -> Response:
    await plane.commands.look_at_lag()
    return Response(metrics.text(plane.commands.status()), media_type=metrics.MEDIA)


async def _deploy(plane: Plane, call: Call) -> Response:
    # Not at the top: the app file's models take a tenth of a second, which a restarted daemon should not spend.
    from shoal.api.admission import admit

    request = await call.body(DeployRequest)
    admit(request.app)
    if not request.only:
        return _answer(call, await plane.commands.deploy(request.app, canary=request.canary))
    app = plane.commands.partly(request.app, request.only)
    admit(app)
    return _answer(call, await plane.commands.deploy(app, only=frozenset(request.only), canary=request.canary))


async def _plan(plane: Plane, call: Call) -> Response:
    from shoal.api.admission import admit

    app = (await call.body(DeployRequest)).app
    admit(app)
    return _answer(call, await plane.commands.dry_run(app))


async def _down(plane: Plane, call: Call) -> Response:
    # Read before. The daemon may end at once; closing a Unix socket with an unread body would take the answer along
    # (ECONNRESET).
    asked = await call.body(DownRequest)
    await plane.commands.down(now=asked.now)
    return _answer(call, Nothing())


async def _replace_proxy(plane: Plane, call: Call) -> Response:
    await plane.commands.replace_proxy()
    return _answer(call, Nothing())


async def _explain(plane: Plane, call: Call) -> Response:
    await plane.commands.look_at_lag()
    return _answer(call, plane.commands.explain(call.name))


async def _scale(plane: Plane, call: Call) -> Response:
    wanted = await call.body(ScaleRequest)
    return _answer(call, await plane.commands.scale(call.name, wanted.replicas))


async def _restart(plane: Plane, call: Call) -> Response:
    return _answer(call, await plane.commands.restart(call.name))


async def _revisions(plane: Plane, call: Call) -> Response:
    return _answer(call, plane.commands.revisions(call.name))


async def _migrations(plane: Plane, call: Call) -> Response:
    return _answer(call, plane.commands.migrations(call.name))


async def _diff(plane: Plane, call: Call) -> Response:
    wanted = await call.body(DiffRequest)
    return _answer(call, await plane.commands.diff(call.name, wanted.before, wanted.after, wanted.app))


async def _rollback(plane: Plane, call: Call) -> Response:
    wanted = await call.body(RollbackRequest)
    return _answer(call, await plane.commands.rollback(call.name, wanted.to, migrated=wanted.migrated))


async def _promote(plane: Plane, call: Call) -> Response:
    return _answer(call, await plane.commands.promote(call.name))


async def _abort(plane: Plane, call: Call) -> Response:
    return _answer(call, await plane.commands.abort(call.name))


async def _run_job(plane: Plane, call: Call) -> Response:
    return _answer(call, await plane.commands.run_job(call.name))


async def _exec_context(plane: Plane, call: Call) -> Response:
    return _answer(call, plane.commands.exec_context(call.name))


async def _logs(plane: Plane, call: Call) -> Response:
    name = call.name
    if name not in OWN:
        plane.commands.explain(name)  # NotFoundError, with what it may have meant
    replica, tail = call.query.text("replica"), call.query.number("tail")
    assert tail is not None
    sources(plane.logs, name, replica)  # UsageError, while it can still be the answer
    batches = log_lines(
        plane.logs,
        name,
        replica,
        tail=tail,
        since=call.query.text("since") or "",
        follow=bool(call.query.flag("follow")),
        closing=plane.closing,
    )

    async def body() -> AsyncGenerator[bytes]:
        async with aclosing(batches):
            async for batch in batches:
                yield b"".join(_json(line) + b"\n" for line in batch) or b"\n"

    return _Stream(body(), LINES)


async def _events(plane: Plane, call: Call) -> Response:
    after, limit, subject, follow = (
        call.query.number("after"),
        call.query.number("limit"),
        call.query.text("subject"),
        call.query.flag("follow"),
    )
    assert after is not None and limit is not None
    if STREAM not in call.request.headers.get("accept", ""):
        if follow:
            raise UsageError("a list cannot be followed", way_out=f"ask with 'Accept: {STREAM}'")
        found = plane.store.journal(after=after, limit=limit, subject=subject)
        return _answer(call, EventList(events=tuple(found)))
    last_seen = call.query.number("Last-Event-ID")
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


async def _openapi(plane: Plane, call: Call) -> Response:
    return Response(json.dumps(document()).encode(), media_type=JSON)


HANDLERS: Mapping[str, Handler] = {
    "getApp": _get_app,
    "deploy": _deploy,
    "plan": _plan,
    "down": _down,
    "replaceProxy": _replace_proxy,
    "explain": _explain,
    "scale": _scale,
    "restart": _restart,
    "revisions": _revisions,
    "migrations": _migrations,
    "diff": _diff,
    "rollback": _rollback,
    "promote": _promote,
    "abort": _abort,
    "runJob": _run_job,
    "logs": _logs,
    "execContext": _exec_context,
    "events": _events,
    "metrics": _metrics,
    "openapi": _openapi,
}
"""By operation id."""


def _answer(call: Call, value: object) -> Response:
    return Response(_json(value), status_code=call.operation.status, media_type=JSON)


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
