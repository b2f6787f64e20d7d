"""What comes in, checked: bodies of bounded size and known fields, query parameters of their kind."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import Request

from shoal.api.operations import Operation, Parameter
from shoal.api.problems import TooLargeError, unreadable
from shoal.errors import UsageError
from shoal.spec import wire

T = TypeVar("T")

NUMBER_MAX = 2**53
"""What every JSON reader takes exactly, and SQLite too."""


class Call:
    """One request to an operation. Making it raises UsageError for an unknown parameter."""

    def __init__(self, operation: Operation, request: Request) -> None:
        self.operation = operation
        self.request = request
        self.query = Query(operation, request)

    @property
    def name(self) -> str:
        """The `{name}` of the path."""
        name: str = self.request.path_params["name"]
        return name

    async def body(self, kind: type[T]) -> T:
        """As `read_body`."""
        return await read_body(self.request, kind, self.operation.body_max)


async def read_body(request: Request, kind: type[T], limit: int) -> T:
    """Raises UsageError: no JSON, of another shape, with a field that this daemon does not know; TooLargeError."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLargeError(f"the body has more than {limit:,} bytes, which is all that {request.url.path} takes")
        chunks.append(chunk)
    text = b"".join(chunks)
    try:
        value: T = wire.adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise unreadable(error) from error
    unknown = _unknown(json.loads(text), wire.to_plain(value), "")
    if unknown:
        # A newer client asks for something that would not be done; an older daemon must say so.
        raise UsageError(
            f"this daemon does not know {', '.join(unknown[:5])}",
            way_out="client and daemon are of different versions: shoal down, then shoal up",
        )
    return value


def _unknown(given: Any, understood: Any, path: str) -> list[str]:
    """Paths of the fields that were given and not understood."""
    match given, understood:
        case dict(), dict():
            found = [f"{path}{key}" for key in given if key not in understood]
            for key in given.keys() & understood.keys():
                found += _unknown(given[key], understood[key], f"{path}{key}.")
            return sorted(found)
        case list(), list():
            return [
                unknown
                for index, pair in enumerate(zip(given, understood, strict=True))
                for unknown in _unknown(*pair, f"{path}{index}.")
            ]
        case _:
            return []


class Query:
    """The parameters of one request, as the operation declares them. An unknown or wrong one is a UsageError."""

    def __init__(self, operation: Operation, request: Request) -> None:
        self._known = {parameter.name: parameter for parameter in operation.parameters}
        self._given: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            parameter = self._known.get(name)
            if parameter is None or parameter.where != "query":
                queries = [p.name for p in operation.parameters if p.where == "query"]
                raise UsageError(
                    f"{operation.path} has no parameter '{name[:100]}'",
                    way_out=f"there are: {', '.join(queries)}" if queries else "leave it out",
                )
            self._given[name] = value
        for parameter in operation.parameters:
            if parameter.where == "header" and parameter.name in request.headers:
                self._given[parameter.name] = request.headers[parameter.name]

    def text(self, name: str) -> str | None:
        return self._given.get(name)

    def number(self, name: str) -> int | None:
        parameter = self._known[name]
        text = self._given.get(name)
        if text is None:
            return parameter.default if isinstance(parameter.default, int) else None
        least = -NUMBER_MAX if parameter.least is None else parameter.least
        most = NUMBER_MAX if parameter.most is None else parameter.most
        digits = text.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) <= 16 and least <= int(text) <= most:
            return int(text)
        raise UsageError(f"'{name}' is '{text[:100]}'", way_out=_wanted(parameter))

    def flag(self, name: str) -> bool | None:
        text = self._given.get(name)
        if text is None:
            default = self._known[name].default
            return None if default is None else bool(default)
        if text in ("0", "1"):
            return text == "1"
        raise UsageError(f"'{name}' is '{text[:100]}'", way_out="it is 0 or 1")


def _wanted(parameter: Parameter) -> str:
    if parameter.least is None or parameter.most is None:
        return "it is a whole number"
    return f"it is a whole number from {parameter.least} to {parameter.most:,}"
