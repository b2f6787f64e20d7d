"""`rollout:` how the replicas of a service are replaced."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from shoal.model.app import Port, Protocol
from shoal.model.policy import DEFAULT_ROLLOUT, CanaryPolicy, RolloutPolicy, Strategy
from shoal.spec.traffic import percent

REPLICAS_MAX = 100
REQUESTS_MIN, REQUESTS_MAX = 30, 1_000_000
STEPS_MAX = 20
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


def _strategy(value: object) -> object:
    if value not in list(Strategy):
        raise _wrong("must be rolling or canary")
    return value


def _shares(value: object) -> object:
    found = [percent(one) for one in value] if isinstance(value, list) else []
    shares = [one for one in found if one is not None and one < 100]
    if not 1 <= len(shares) == len(found) <= STEPS_MAX or shares != sorted(set(shares)):
        raise _wrong("must be growing percentages below 100%", "write it like [10%, 50%]")
    return value


def _requests(value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool) or not REQUESTS_MIN <= value <= REQUESTS_MAX:
        raise _wrong(f"must be a number of requests, {REQUESTS_MIN} to {REQUESTS_MAX:,}")
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
    strategy: Annotated[str, BeforeValidator(_strategy), Field(json_schema_extra={"enum": [*Strategy]})] = Field(
        default="rolling",
        description="How a deploy changes to another revision: `rolling`, one replica after the other; `canary`, first "
        "with a share of the requests, judged against the revision before. `shoal deploy --canary` and `--no-canary` "
        "say otherwise for once. Workers, first deploys, restarts and rollbacks by hand are always rolling.",
    )
    steps: Annotated[list[str | int | float], BeforeValidator(_shares)] = Field(
        default=["10%", "50%"],
        description="The shares of a canary, one after the other; then all of it is replaced.",
        examples=[["1%", "10%", "50%"]],
    )
    step_requests: Annotated[int, BeforeValidator(_requests), Field(ge=REQUESTS_MIN, le=REQUESTS_MAX)] = Field(
        default=CanaryPolicy().samples_min,
        description="How many requests the canary must have answered in a step before it passes.",
    )
    step_wait: Time = Field(default="30s", description="How long a step lasts at least.", examples=["5m"])
    step_wait_max: Time = Field(
        default="10m",
        description="How long a step waits for its verdict; then the canary stands, until `shoal promote` or "
        "`shoal abort`.",
        examples=["1h"],
    )
    promote: Annotated[str, BeforeValidator(_mode), Field(json_schema_extra={"enum": ["auto", "off"]})] = Field(
        default="auto",
        description="What follows a canary's good verdict: `auto`, the next step; `off`, `shoal promote` is awaited.",
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
        strategy=Strategy(written.strategy),
        canary=CanaryPolicy(
            percents=tuple(percent(share) or 0.0 for share in written.steps),
            samples_min=written.step_requests,
            wait_s=seconds(written.step_wait) or 0.0,
            wait_s_max=seconds(written.step_wait_max) or 0.0,
            auto=written.promote == "auto",
        ),
    )


def flaw(written: RolloutFile | None) -> str:
    """What is wrong with the values together; empty: nothing."""
    if written is not None and written.surge == 0 and written.unavailable == 0:
        return "with neither 'surge' nor 'unavailable' no replica can ever be replaced"
    return ""


def no_canary(written: RolloutFile | None, ports: Sequence[Port]) -> str:
    """Why a service with these ports has no canaries; empty: it has, or wants none."""
    if written is None or written.strategy != Strategy.CANARY:
        return ""
    if not ports:
        return "a service without a port has no requests to share"
    if all(port.protocol is Protocol.TCP for port in ports):
        return "what speaks TCP cannot be judged: nobody sees its requests"
    return ""
