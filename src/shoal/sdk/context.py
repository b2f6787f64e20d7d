"""What a request carries with it: how long its caller still waits, and the trace that it is a part of."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

DEADLINE_HEADER = "x-shoal-deadline"
TRACE_HEADERS = ("traceparent", "tracestate")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Context:
    ends_at: float | None = None
    """By `time.monotonic`, in seconds; None: the caller waits as long as it takes."""
    traceparent: str = ""
    tracestate: str = ""


_now_serving: ContextVar[Context] = ContextVar("shoal", default=Context())  # noqa: B039 - it is frozen


def current() -> Context:
    return _now_serving.get()


def headers() -> dict[str, str]:
    """For a call that is made on behalf of the request that is being served: what is left of its deadline, its
    trace."""
    context = current()
    found: dict[str, str] = {}
    if context.ends_at is not None:
        found[DEADLINE_HEADER] = str(max(0, round((context.ends_at - time.monotonic()) * 1000)))
    if context.traceparent:
        found["traceparent"] = context.traceparent
        if context.tracestate:
            found["tracestate"] = context.tracestate
    return found


def of_headers(deadline: str = "", traceparent: str = "", tracestate: str = "") -> Context:
    """What a request said; what is malformed says nothing."""
    ends_at = None
    if deadline.isascii() and deadline.isdigit() and len(deadline) <= 10:
        ends_at = time.monotonic() + min(int(deadline), _DAY_MS) / 1000
    if not _TRACEPARENT.fullmatch(traceparent):
        return Context(ends_at)
    return Context(ends_at, traceparent, tracestate)


@contextmanager
def serving(context: Context) -> Iterator[None]:
    token = _now_serving.set(context)
    try:
        yield
    finally:
        _now_serving.reset(token)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Calls in the block are given no longer than that, and no longer than the request itself has."""
    context = current()
    ends_at = time.monotonic() + seconds
    if context.ends_at is not None:
        ends_at = min(ends_at, context.ends_at)
    with serving(replace(context, ends_at=ends_at)):
        yield
