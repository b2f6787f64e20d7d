"""JSON into the frozen dataclasses of the model, by their type hints. Standard library only: the command line must
start in a fifth of a second, and pydantic alone takes that long.

Fields that the dataclass does not know are left out, so that an older client reads a newer daemon.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Hashable
from enum import Enum
from functools import cache
from typing import Any, TypeVar, cast

from shoal.errors import ShoalError

T = TypeVar("T")


def decode(kind: type[T], plain: object) -> T:
    """Raises ShoalError, which names the field, when the daemon said something that is no `kind`."""
    try:
        value: T = _decoder(cast("Hashable", kind))(plain)
    except _MismatchError as error:
        raise ShoalError(
            f"the daemon's answer is not understood: {kind.__name__}{error.path}: {error.what}",
            way_out="client and daemon are of different versions: shoal down, then shoal up",
        ) from None
    return value


class _MismatchError(Exception):
    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.path = ""


_Decoder = Callable[[object], Any]


@cache
def _decoder(kind: Any) -> _Decoder:
    """A function for the type, made once."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in (object, Any):
        return lambda plain: plain
    if origin in (typing.Union, types.UnionType):
        return _optional(arguments)
    if origin in (tuple, list):
        return _sequence(arguments[0], origin)
    if origin is dict:
        return _mapping(arguments[1])
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum(kind)
    return _scalar(kind)


def _optional(arguments: tuple[Any, ...]) -> _Decoder:
    (other,) = (argument for argument in arguments if argument is not types.NoneType)
    inner = _decoder(other)
    return lambda plain: None if plain is None else inner(plain)


def _sequence(item: Any, make: Callable[[list[Any]], Any]) -> _Decoder:
    inner = _decoder(item)

    def decoded(plain: object) -> Any:
        items = _of(list, plain, "a list")
        return make([_at(f".{index}", inner, value) for index, value in enumerate(items)])

    return decoded


def _mapping(item: Any) -> _Decoder:
    inner = _decoder(item)

    def decoded(plain: object) -> Any:
        return {key: _at(f".{key}", inner, value) for key, value in _of(dict, plain, "an object").items()}

    return decoded


def _dataclass(kind: Any) -> _Decoder:
    hints = typing.get_type_hints(kind)
    fields = [
        (
            field.name,
            _decoder(hints[field.name]),
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
    ]

    def decoded(plain: object) -> Any:
        given = _of(dict, plain, "an object")
        values = {}
        for name, inner, required in fields:
            if name in given:
                values[name] = _at(f".{name}", inner, given[name])
            elif required:
                raise _MismatchError(f"'{name}' is missing")
        return kind(**values)

    return decoded


def _enum(kind: type[Enum]) -> _Decoder:
    def decoded(plain: object) -> Any:
        try:
            return kind(plain)
        except ValueError:
            raise _MismatchError(f"{plain!r:.60} is no {kind.__name__}") from None

    return decoded


def _scalar(kind: Any) -> _Decoder:
    if kind is float:

        def decoded(plain: object) -> Any:
            return float(_of((int, float), plain, "a number"))

        return decoded
    words = {str: "a text", int: "a whole number", bool: "true or false"}[kind]
    return lambda plain: _of(kind, plain, words)


def _of(kind: Any, plain: object, words: str) -> Any:
    if not isinstance(plain, kind) or (isinstance(plain, bool) and kind is not bool):
        raise _MismatchError(f"{plain!r:.60} is not {words}")
    return plain


def _at(part: str, inner: _Decoder, value: object) -> Any:
    try:
        return inner(value)
    except _MismatchError as error:
        error.path = part + error.path
        raise
