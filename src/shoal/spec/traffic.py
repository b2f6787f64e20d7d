"""The keys that say how requests to a service are treated: of a service, of `defaults`, and of one of its callers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from shoal.model.traffic import Balance, Breaker, Choice, Fault, Limit, Outlier, Policy, RetryBudget
from shoal.spec.strict import Strict, wrong

COUNT_MAX = 1_000_000
RETRIES_MAX = 10
TIME_S_MAX = 24 * 3600.0
OFF = "off"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_TIME = r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h)?"
_RATE = r"([1-9][0-9]{0,8})\s*/\s*(s|m|h)"
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}"
"""RFC 9110, section 5.6.2: what names a header or a cookie."""


def time_s(value: str | int) -> float | None:
    """`2s`, `500ms`, `1.5m`, `1h`, a whole number of seconds, or `off`, which is 0; None: none of these."""
    if value == OFF:
        return 0.0
    found = re.fullmatch(_TIME, str(value))
    return round(float(found[1]) * _UNITS[found[2] or ""], 6) if found else None


def _time(value: object) -> object:
    seconds = time_s(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    if seconds is None:
        hint = "write off" if value is False else "write it like 2s, 500ms or 1m, or off"
        raise wrong("must be a time, or off", hint)
    if not (value == OFF or 0.001 <= seconds <= TIME_S_MAX):
        raise wrong("must be between 1ms and 24h", "write off for none" if seconds == 0 else "")
    return value


def _span(value: object) -> object:
    if value == OFF:
        raise wrong("must be a time", "write it like 5s or 500ms")
    return _time(value)


def _percent(value: object) -> object:
    if percent(value) is None:
        raise wrong("must be a percentage above 0, up to 100%", "write it like 20%")
    return value


def percent(value: object) -> float | None:
    """`20%`, or a number from 0 to 100."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,4})?)%?", str(value))
    number = float(found[1]) if found else 0.0
    return number if 0 < number <= 100 else None


def _count(least: int, most: int) -> BeforeValidator:
    """A whole number, or `off`."""

    def check(value: object) -> object:
        if value == OFF:
            return value
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise wrong(f"must be a whole number from {least} to {most}, or off", "write off" if value is False else "")
        return value

    return BeforeValidator(check)


def _rate(value: object) -> object:
    if value != OFF and not (isinstance(value, str) and re.fullmatch(_RATE, value)):
        hint = f"write {value}/s" if isinstance(value, int) and not isinstance(value, bool) else "write it like 100/s"
        raise wrong("must be so many requests a second, minute or hour, or off", hint)
    return value


def is_token(text: str) -> bool:
    """Whether it can be the name of a header or a cookie."""
    return re.fullmatch(_TOKEN, text) is not None


def _name(value: object) -> object:
    if not isinstance(value, str) or not is_token(value):
        raise wrong("must be a name as it stands in a request: no spaces, no ; and no =")
    return value


_CHOICES = tuple(choice.value for choice in Choice if choice is not Choice.RING_HASH)


def _balance(value: object) -> object:
    if isinstance(value, dict):
        if isinstance(by := value.get("ring_hash"), dict) and len(value) == 1:
            return by
        return value
    if value == Choice.RING_HASH.value:
        raise wrong("does not say by what", "write balance: {cookie: NAME}, or {header: NAME}")
    if value not in _CHOICES:
        hints = {"sticky": "{cookie: NAME}", "leastconn": "least_request", "ip_hash": "{header: NAME}"}
        near = hints.get(str(value), "")
        raise wrong(
            f"must be {', '.join(_CHOICES)}, or a mapping with header or cookie",
            f"did you mean {near}?" if near else "",
        )
    return {"choice": value}


def _short_for(key: str) -> Callable[[object], object]:
    """A value alone stands for a mapping with this key."""
    return lambda value: value if isinstance(value, dict) else {key: value}


def _breaker(value: object) -> object:
    if isinstance(value, dict):
        return value
    return {"requests": OFF, "pending": OFF, "connections": OFF} if value == OFF else {"requests": value}


def _fault(value: object) -> object:
    if not isinstance(value, dict):
        raise wrong("must be a mapping", "write it like {delay: 200ms, percent: 10%} or {abort: 503}")
    return value


def _status(value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool) or not 400 <= value <= 599:
        raise wrong("must be a status from 400 to 599", "such as 503")
    return value


_TIME_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "pattern": f"^({_TIME}|off)$"}, {"type": "integer", "minimum": 1, "maximum": 86400}]
}
_PERCENT_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "string", "pattern": "^[0-9.]+%$"}, {"type": "number"}]}


def _or_off(least: int, most: int) -> dict[str, Any]:
    return {"anyOf": [{"type": "integer", "minimum": least, "maximum": most}, {"enum": [OFF]}]}


Time = Annotated[str | int, BeforeValidator(_time), Field(json_schema_extra=_TIME_SCHEMA)]
Span = Annotated[str | int, BeforeValidator(_span), Field(json_schema_extra=_TIME_SCHEMA)]
Percent = Annotated[str | int | float, BeforeValidator(_percent), Field(json_schema_extra=_PERCENT_SCHEMA)]
Count = Annotated[int | str, _count(1, COUNT_MAX), Field(json_schema_extra=_or_off(1, COUNT_MAX))]
Retries = Annotated[int | str, _count(0, RETRIES_MAX), Field(json_schema_extra=_or_off(0, RETRIES_MAX))]
Rate = Annotated[str, BeforeValidator(_rate), Field(json_schema_extra={"pattern": f"^({_RATE}|off)$"})]
Name = Annotated[str, BeforeValidator(_name), Field(json_schema_extra={"pattern": f"^{_TOKEN}$"})]


class RetryBudgetFile(Strict):
    """How many retries of a service's requests may be under way at once. A percentage alone is `percent`."""

    model_config = ConfigDict(title="Retry budget")

    percent: Percent | None = Field(default=None, description="Of the requests under way. Default: 20%.")
    floor: Annotated[int, _count(1, COUNT_MAX), Field(ge=1, le=COUNT_MAX)] | None = Field(
        default=None, description="As many are always allowed. Default: 32."
    )


class OutlierFile(Strict):
    """When a replica is put aside for its failures. A number alone is `errors`; `off`: never."""

    model_config = ConfigDict(title="Outlier ejection")

    errors: Count | None = Field(
        default=None, description="5xx answers or failed connections in a row. `off`: never. Default: 5."
    )
    interval: Span | None = Field(default=None, description="How often it is looked who comes back. Default: 1s.")
    ejection: Span | None = Field(
        default=None, description="For how long it is put aside, times the number of times. Default: 5s."
    )
    percent: Percent | None = Field(default=None, description="Of the replicas, at most. Default: 50%.")


class BreakerFile(Strict):
    """What may be under way at once at a service; the rest is answered 503 at once. A number alone is `requests`;
    `off`: no limits."""

    model_config = ConfigDict(title="Breaker")

    requests: Count | None = Field(default=None, description="Requests under way. Default: 1024.")
    pending: Count | None = Field(default=None, description="Requests that wait for a connection. Default: 1024.")
    connections: Count | None = Field(default=None, description="Connections to its replicas. Default: 1024.")


class LimitFile(Strict):
    """How many requests in how much time; the rest is answered 429, with `retry-after`. Text alone is `rate`."""

    model_config = ConfigDict(title="Limit", json_schema_extra={"required": ["rate"]})

    rate: Rate = Field(default=OFF, description="Requests a second, minute or hour. Required.", examples=["100/s"])
    burst: Annotated[int, _count(1, COUNT_MAX), Field(ge=1, le=COUNT_MAX)] | None = Field(
        default=None, description="How many at once, after a pause. Default: what comes together in a second."
    )


class BalanceFile(Strict):
    """Which requests go to the same replica as long as it is there: those with the same value of a header or a cookie.
    One of these words alone is another way to choose: `least_request`, `round_robin`, `random`."""

    model_config = ConfigDict(title="Balance")

    choice: Annotated[Literal["least_request", "round_robin", "random"], Field(json_schema_extra={})] | None = Field(
        default=None, description="As the word alone."
    )
    header: Name | None = Field(default=None, description="A request header.", examples=["x-user"])
    cookie: Name | None = Field(
        default=None, description="A cookie; it is set where there is none.", examples=["session"]
    )
    ttl: Span | None = Field(default=None, description="How long that cookie lives. Default: as long as the browser.")


class FaultFile(Strict):
    """Failures on purpose, to see what becomes of the callers. `shoal status` warns of them."""

    model_config = ConfigDict(title="Fault")

    delay: Span | None = Field(default=None, description="How long requests wait before the service gets them.")
    abort: Annotated[int, BeforeValidator(_status), Field(ge=400, le=599)] | None = Field(
        default=None, description="The status that is answered in the place of the service.", examples=[503]
    )
    percent: Percent = Field(default=100, description="Of the requests. Default: all.", examples=["10%"])


_CountOrOff = Annotated[int | str, Field(json_schema_extra=_or_off(1, COUNT_MAX))]
_RetryBudget = Annotated[
    RetryBudgetFile, BeforeValidator(_short_for("percent"), json_schema_input_type=Percent | RetryBudgetFile)
]
_Outlier = Annotated[
    OutlierFile, BeforeValidator(_short_for("errors"), json_schema_input_type=_CountOrOff | OutlierFile)
]
_Breaker = Annotated[BreakerFile, BeforeValidator(_breaker, json_schema_input_type=_CountOrOff | BreakerFile)]
_Limit = Annotated[LimitFile, BeforeValidator(_short_for("rate"), json_schema_input_type=Rate | LimitFile)]
_Balance = Annotated[
    BalanceFile,
    BeforeValidator(_balance, json_schema_input_type=Literal["least_request", "round_robin", "random"] | BalanceFile),
]
_Fault = Annotated[FaultFile, BeforeValidator(_fault)]


class TrafficKeys(Strict):
    """The keys themselves. A service's are for all its callers; a caller's, below a name in its `calls`, win."""

    timeout: Time | None = Field(
        default=None,
        description="How long a request may take, all tries together; then it is answered 504. `off`: as long as it "
        "takes. Streams (server-sent events, WebSockets, gRPC, which has its own deadline) have none. Default: 15s.",
        examples=["2s", "off"],
    )
    per_try_timeout: Time | None = Field(
        default=None,
        description="After how long without an answer another replica is asked as well, for requests that may be "
        "repeated; the first answer counts. Default: a third of `timeout`.",
        examples=["500ms"],
    )
    retries: Retries | None = Field(
        default=None,
        description="How often a request is tried again, if it may be: those that cannot have reached the service, and "
        "idempotent ones and those with an `Idempotency-Key`. TCP: attempts to connect. Default: 5.",
        examples=[1, "off"],
    )
    retry_budget: _RetryBudget | None = Field(
        default=None, description="How many retries may be under way at once (below).", examples=["20%"]
    )
    outlier: _Outlier | None = Field(
        default=None, description="When a replica is put aside (below).", examples=["off", {"errors": 3}]
    )
    breaker: _Breaker | None = Field(
        default=None, description="What may be under way at once (below).", examples=[100, {"connections": 20}]
    )
    limit: _Limit | None = Field(
        default=None,
        description="How many requests in how much time, over all callers and the gateway (below); of one caller, how "
        "many of its own. Default: no limit.",
        examples=["100/s", {"rate": "600/m", "burst": 50}],
    )
    balance: _Balance | None = Field(
        default=None,
        description="How the replica of a request is chosen: `least_request` (default; `round_robin` for TCP), "
        "`round_robin`, `random`, or sticky by a cookie or header (below).",
        examples=["round_robin", {"cookie": "session"}],
    )
    fault: _Fault | None = Field(
        default=None, description="Failures on purpose (below).", examples=[{"delay": "200ms", "percent": "10%"}]
    )


class EdgeFile(TrafficKeys):
    """How a service's own calls to another one are treated; what is not said here is as for all of its callers."""

    model_config = ConfigDict(title="Edge")


KEYS = tuple(TrafficKeys.model_fields)
MODELS: Mapping[str, type[BaseModel]] = {
    "retry_budget": RetryBudgetFile,
    "outlier": OutlierFile,
    "breaker": BreakerFile,
    "limit": LimitFile,
    "balance": BalanceFile,
    "fault": FaultFile,
}
"""Of the keys that may be mappings."""


def _calls(value: object) -> object:
    """A list of names, some of them with a mapping of their own, or a mapping: always a mapping afterwards."""
    if isinstance(value, dict):
        return {name: {} if said is None else said for name, said in value.items()}
    if isinstance(value, str):
        raise wrong("must be a list of services", f"write [{value}]")
    found: dict[str, object] = {}
    for item in value if isinstance(value, list) else [None]:
        if isinstance(item, str):
            found.setdefault(item, {})
        elif isinstance(item, dict) and item and all(isinstance(name, str) for name in item):
            found |= {name: {} if said is None else said for name, said in item.items()}
        else:
            raise wrong("must be a list of services", "write [db], or {db: {timeout: 1s}}")
    return found


_Item = str | dict[str, EdgeFile]
Calls = Annotated[
    dict[str, EdgeFile], BeforeValidator(_calls, json_schema_input_type=list[_Item] | dict[str, EdgeFile])
]


def policy(keys: TrafficKeys) -> Policy:
    """As the model has it."""
    return Policy(
        timeout_s=_seconds(keys.timeout),
        per_try_timeout_s=_seconds(keys.per_try_timeout),
        retries=_number(keys.retries),
        retry_budget=None
        if keys.retry_budget is None
        else RetryBudget(percent=percent(keys.retry_budget.percent), floor=keys.retry_budget.floor),
        outlier=None if keys.outlier is None else _outlier(keys.outlier),
        breaker=None
        if keys.breaker is None
        else Breaker(
            connections=_number(keys.breaker.connections),
            pending=_number(keys.breaker.pending),
            requests=_number(keys.breaker.requests),
        ),
        limit=None if keys.limit is None else _limit(keys.limit),
        balance=None if keys.balance is None else _chosen(keys.balance),
        fault=None
        if keys.fault is None
        else Fault(
            delay_s=_seconds(keys.fault.delay) or 0.0,
            abort=keys.fault.abort or 0,
            percent=percent(keys.fault.percent) or 0.0,
        ),
    )


def _outlier(said: OutlierFile) -> Outlier:
    share = percent(said.percent)
    return Outlier(
        errors=_number(said.errors),
        interval_s=_seconds(said.interval),
        ejection_s=_seconds(said.ejection),
        percent=None if share is None else max(1, round(share)),
    )


def _limit(said: LimitFile) -> Limit:
    found = re.fullmatch(_RATE, said.rate)
    if found is None:
        return Limit(requests=0, per_s=1.0)
    return Limit(requests=int(found[1]), per_s=_UNITS[found[2]], burst=said.burst)


def _chosen(said: BalanceFile) -> Balance:
    if said.choice is not None:
        return Balance(choice=Choice(said.choice))
    return Balance(
        choice=Choice.RING_HASH, header=said.header or "", cookie=said.cookie or "", ttl_s=_seconds(said.ttl) or 0.0
    )


def _seconds(value: str | int | None) -> float | None:
    return None if value is None else time_s(value)


def _number(value: int | str | None) -> int | None:
    return 0 if value == OFF else int(value) if value is not None else None
