"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus

from pydantic import ValidationError
from starlette.responses import Response

from shoal.api.operations import PROBLEM
from shoal.errors import ShoalError, UsageError

SHOWN_MAX = 20
"""Flaws of one body that are told."""

TITLES = {
    "usage": "The request is wrong",
    "not-found": "There is no such thing",
    "conflict": "The request is fine, the world is not",
    "too-large": "The body is too large",
    "method": "This method does not work here",
    "store": "The state could not be read or written",
    "engine": "An engine could not do it",
    "error": "Shoal failed",
}


class TooLargeError(UsageError):
    code = "too-large"
    status = 413


class MethodError(UsageError):
    code = "method"
    status = 405


def problem(error: ShoalError, headers: dict[str, str] | None = None) -> Response:
    """`code`, `way_out` and `lines` (worth reading: a log's tail, each flaw of a body) beside RFC 9457's members."""
    phrase = HTTPStatus(error.status).phrase
    body = {
        "type": f"urn:shoal:error:{error.code}",
        "title": TITLES.get(error.code, phrase),
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "way_out": error.way_out,
        "lines": error.detail.splitlines(),
    }
    # With ASCII escapes: a message may hold bytes of a file name that are no UTF-8.
    return Response(json.dumps(body).encode(), status_code=error.status, media_type=PROBLEM, headers=headers)


def unreadable(error: ValidationError) -> UsageError:
    """A body that is no JSON, or not of its type, with the path of each flawed field."""
    flaws = error.errors(include_url=False, include_context=False, include_input=False)
    if flaws[0]["type"] == "json_invalid":
        return UsageError(f"the body is not JSON: {flaws[0]['msg'].removeprefix('Invalid JSON: ')}")
    told = [f"{'.'.join(map(str, flaw['loc'])) or 'body'}: {flaw['msg']}" for flaw in flaws[:SHOWN_MAX]]
    if len(flaws) > SHOWN_MAX:
        told.append(f"and {len(flaws) - SHOWN_MAX} more")
    count = "a flaw" if len(flaws) == 1 else f"{len(flaws)} flaws"
    return UsageError(
        f"the body has {count}, first {told[0]}",
        way_out="GET /v1/openapi.json describes it; use a client of the daemon's version",
        detail="\n".join(told),
    )
