"""`rollout:` how the replicas of a service are replaced."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from shoal.model.policy import DEFAULT_ROLLOUT, RolloutPolicy

REPLICAS_MAX = 100
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def _wrong(message: str, way_out: str = "") -> PydanticCustomError:
    return PydanticCustomError("shoal", "{message}", {"message": message, "way_out": way_out})


def _count(value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= REPLICAS_MAX:
        raise _wrong(f"must be a number of replicas, 0 to {REPLICAS_MAX}")
    return value


def seconds(value: object) -> float | None:
    """`500ms`, `2s`, `1.5s`, `10m`, or a number of seconds; None: neither."""
    found = re.fullmatch(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)(ms|s|m|h|)", str(value))
    return float(found[1]) * _UNITS[found[2]] if found is not None and not isinstance(value, bool) else None


def _time(value: object) -> object:
    if seconds(value) is None:
        raise _wrong("must be a time", "write it like 500ms, 2s or 10m")
    return value


def _mode(value: object) -> object:
    if value is False:
        return "off"
    if value not in ("auto", "off"):
        raise _wrong("must be auto or off")
    return value


Time = Annotated[str | int | float, BeforeValidator(_time)]
Count = Annotated[int, BeforeValidator(_count), Field(ge=0, le=REPLICAS_MAX)]


class RolloutFile(BaseModel):
    """How a service changes to a revision, or is restarted. The defaults keep every request, with one replica too."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, title="Rollout")

    surge: Count = Field(
        default=DEFAULT_ROLLOUT.surge,
        description="How many replicas there may be beyond `replicas` meanwhile (Kubernetes: `maxSurge`).",
    )
    unavailable: Count = Field(
        default=DEFAULT_ROLLOUT.unavailable,
        description="How many of `replicas` may be missing meanwhile (`maxUnavailable`); at least 1 when `surge` is 0.",
    )
    min_healthy: Time = Field(
        default="1s",
        description="How long a new replica must have been ready before an old one leaves for it (`minReadySeconds`).",
        examples=["10s"],
    )
    deadline: Time = Field(
        default="120s",
        description="A rollout has failed when no further replica got ready for this long (`progressDeadlineSeconds`).",
        examples=["10m"],
    )
    rollback: Annotated[str, BeforeValidator(_mode), Field(json_schema_extra={"enum": ["auto", "off"]})] = Field(
        default="auto",
        description="What follows a failed rollout: `auto`, the revision before, with all of its spec; `off`, the new "
        "one is tried again and again, beside those old replicas that serve.",
    )


def policy(written: RolloutFile | None) -> RolloutPolicy:
    if written is None:
        return DEFAULT_ROLLOUT
    return RolloutPolicy(
        surge=written.surge,
        unavailable=written.unavailable,
        min_healthy_s=seconds(written.min_healthy) or 0.0,
        deadline_s=seconds(written.deadline) or 0.0,
        rollback=written.rollback == "auto",
    )


def flaw(written: RolloutFile | None) -> str:
    """What is wrong with the values together; empty: nothing."""
    if written is not None and written.surge == 0 and written.unavailable == 0:
        return "with neither 'surge' nor 'unavailable' no replica can ever be replaced"
    return ""
