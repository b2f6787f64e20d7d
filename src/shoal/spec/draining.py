"""`drain:` and `stop_grace_period:` how long a replica has to leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from shoal.model.draining import Draining
from shoal.spec.pace import pause_s
from shoal.spec.strict import wrong

if TYPE_CHECKING:
    from shoal.spec.schema import ServiceFile

LEAVE_S_MAX = 3600.0
GRACE_S_LEAST = 0.1


def _time(value: object) -> object:
    seconds = pause_s(value)
    if seconds is None:
        raise wrong("must be a time", "write it like 500ms, 30s or 2m; 0s for not at all")
    if seconds > LEAVE_S_MAX:
        raise wrong("must be a time from 0s to 60m")
    return value


_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m)?$"}, {"type": "number", "minimum": 0}]
}
LeaveTime = Annotated[str | int | float, BeforeValidator(_time), Field(json_schema_extra=_SCHEMA)]


def draining(service: ServiceFile) -> Draining:
    # SIGKILL is sent again after the same time, should nobody hear of the end: not without a pause.
    grace_s = max(GRACE_S_LEAST, pause_s(service.stop_grace_period) or 0.0)
    return Draining(drain_s=pause_s(service.drain) or 0.0, grace_s=grace_s)
