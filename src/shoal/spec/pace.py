"""How often a probe asks, as it is written: times and counts."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

PAUSE_S_LEAST, PAUSE_S_MOST = 0.05, 3600.0
TIMES_MOST = 1000
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}
_TIME = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)(ms|s|m|)")


def pause_s(value: object) -> float | None:
    """`500ms`, `1.5s`, `2m`, or a number of seconds; None: no time."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    found = _TIME.fullmatch(str(value))
    return None if found is None else round(float(found[1]) * _UNITS[found[2]], 6)


def _wrong(message: str, way_out: str) -> PydanticCustomError:
    return PydanticCustomError("shoal", "{message}", {"message": message, "way_out": way_out})


def _pause(least_s: float) -> BeforeValidator:
    def check(value: object) -> object:
        seconds = pause_s(value)
        if seconds is None:
            raise _wrong("must be a time", "write it like 500ms, 1s or 2m")
        if not least_s <= seconds <= PAUSE_S_MOST:
            raise _wrong(f"must be a time from {least_s * 1000:g}ms to {PAUSE_S_MOST / 60:g}m", "")
        return value

    return BeforeValidator(check)


def _times(value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= TIMES_MOST:
        hint = "write it without quotes" if isinstance(value, str) and value.strip().isdigit() else ""
        raise _wrong(f"must be a whole number from 1 to {TIMES_MOST}", hint)
    return value


_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m)?$"}, {"type": "number", "minimum": 0}]
}
Pause = Annotated[str | int | float, _pause(PAUSE_S_LEAST), Field(json_schema_extra=_SCHEMA)]
Delay = Annotated[str | int | float, _pause(0.0), Field(json_schema_extra=_SCHEMA)]
Times = Annotated[int, Field(ge=1, le=TIMES_MOST), BeforeValidator(_times)]
