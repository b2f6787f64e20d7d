"""`egress`: where a service with a network of its own may connect outside the app."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*"
_PLACE = re.compile(rf"(?P<host>{_HOST}|\[[0-9a-f:.]+\]):(?P<port>[0-9]{{1,5}})")
PLACES_MAX = 200


def place(text: str) -> str:
    """Gives `host:port` or `*.host:port` back, in lower case; raises PydanticCustomError, with `message` and
    `way_out` in its context."""
    written = text.lower()
    found = _PLACE.fullmatch(written)
    if "://" in text:
        scheme, _, rest = written.partition("://")
        port = {"https": ":443", "http": ":80"}.get(scheme, ":443")
        host = rest.partition("/")[0]
        raise _wrong("is a URL, and host:port is needed", f"write {host if ':' in host else host + port}")
    if found is None or not 1 <= int(found["port"]) <= 65535:
        hint = (
            f"write {text}:443" if re.fullmatch(_HOST, written) else "such as api.example.com:443 or *.example.com:443"
        )
        raise _wrong("must be host:port", hint)
    return written


def flaw_of(text: str) -> str:
    """What is wrong with one; empty: nothing."""
    try:
        return "" if place(text) == text else "is not in lower case"
    except PydanticCustomError as error:
        return str((error.context or {})["message"])


def _places(value: object) -> object:
    if isinstance(value, str):
        raise _wrong("must be a list", f"write [{value}]")
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong("must be a list of host:port", "such as [api.example.com:443]")
    if len(value) > PLACES_MAX:
        raise _wrong(f"has more than {PLACES_MAX} entries", "a wildcard such as *.example.com:443 stands for many")
    return list(dict.fromkeys(place(item) for item in value))


def _wrong(message: str, way_out: str = "") -> PydanticCustomError:
    return PydanticCustomError("shoal", "{message}", {"message": message, "way_out": way_out})


_PATTERN: Mapping[str, Any] = {"items": {"type": "string", "pattern": r"^(\*\.)?[^*/\s]+:[0-9]{1,5}$"}}
Egress = Annotated[list[str], BeforeValidator(_places), Field(json_schema_extra=dict(_PATTERN))]
