"""The model as JSON and back: for the API's bodies and the store's rows.

One function each way for every frozen dataclass of the model; pydantic checks what comes in.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

T = TypeVar("T")


@cache
def _cached(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast("type[Any]", kind))


def adapter(kind: object) -> TypeAdapter[Any]:
    """Pydantic's view of a type; made once."""
    assert isinstance(kind, Hashable)
    return _cached(kind)


def encode(value: object) -> str:
    """Compact JSON; keys in the order of the fields, so that equal values give equal text."""
    return adapter(type(value)).dump_json(value).decode()


def essence(value: object) -> str:
    """As `encode`, of what differs from the defaults alone, at any depth: the same text where a newer Shoal has a field
    more that nobody uses."""
    return adapter(type(value)).dump_json(value, exclude_defaults=True).decode()


def decode(kind: type[T], text: str | bytes) -> T:
    """Raises pydantic.ValidationError when the text is not a `kind`."""
    value: T = adapter(kind).validate_json(text)
    return value


def to_plain(value: object) -> Any:
    """The same as `encode`, as dicts and lists."""
    return adapter(type(value)).dump_python(value, mode="json")


def from_plain(kind: type[T], plain: object) -> T:
    value: T = adapter(kind).validate_python(plain)
    return value
