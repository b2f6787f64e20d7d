"""How requests to a service are treated: what its app file says of it, for all callers or for one of them.

Everywhere, None means: not said here. A caller's edge wins over the service, the service over the defaults
(`mesh.policies`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum


class Choice(StrEnum):
    """By what the replica of a request is chosen."""

    LEAST_REQUEST = "least_request"
    """Of two at random, the one with fewer requests under way."""
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    RING_HASH = "ring_hash"
    """Equal keys go to the same replica, as long as it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """How many retries may be under way at once, so that they cannot drown a service that fails."""

    percent: float | None = None
    """Of the requests under way; above 0, to 100."""
    floor: int | None = None
    """As many are always allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """When a replica is put aside for its failures."""

    errors: int | None = None
    """5xx answers or failed connections in a row. 0: never."""
    interval_s: float | None = None
    """How often those put aside are looked through for some that come back."""
    ejection_s: float | None = None
    """For how long; times the number of times that it was put aside."""
    percent: int | None = None
    """Of the replicas, at most, at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """What may be under way at once; the rest is refused at once. 0: no limit."""

    connections: int | None = None
    pending: int | None = None
    """Requests that wait for a connection."""
    requests: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How many requests in how much time; the rest is answered 429."""

    requests: int
    """0: no limit."""
    per_s: float
    burst: int | None = None
    """How many at once, after a pause. None: what comes together in a second, at least one."""

    def __str__(self) -> str:
        return f"{self.requests}/{_UNIT.get(self.per_s, shown(self.per_s))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    choice: Choice
    header: str = ""
    """With RING_HASH: the request header that is the key; else it is the cookie."""
    cookie: str = ""
    """With RING_HASH: the cookie that is the key; Envoy sets it where it is missing."""
    ttl_s: float = 0.0
    """Of that cookie; 0: until the browser is closed."""

    def __str__(self) -> str:
        if self.header:
            return f"header {self.header}"
        if self.cookie:
            return f"cookie {self.cookie}" + (f" for {shown(self.ttl_s)}" if self.ttl_s else "")
        return self.choice.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is done to requests on purpose, to see what becomes of their callers."""

    delay_s: float = 0.0
    abort: int = 0
    """The status that is answered in the service's place; 0: none."""
    percent: float = 100.0
    """Of the requests. 0: nothing is done."""

    def __bool__(self) -> bool:
        return self.percent > 0 and (self.delay_s > 0 or self.abort > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is said in one place of the app file."""

    timeout_s: float | None = None
    """From the end of the request to the end of the answer, all tries together. 0: as long as it takes."""
    per_try_timeout_s: float | None = None
    """After which another replica is asked as well, for requests that may be repeated. 0: none is."""
    retries: int | None = None
    """Tries beside the first. For a port that speaks TCP: attempts to connect."""
    retry_budget: RetryBudget | None = None
    outlier: Outlier | None = None
    breaker: Breaker | None = None
    limit: Limit | None = None
    balance: Balance | None = None
    fault: Fault | None = None

    def __bool__(self) -> bool:
        return self != NOTHING


NOTHING = Policy()
"""Said nowhere."""
OF_TCP = frozenset(("retries", "outlier", "breaker", "balance"))
"""Those keys that mean something for a port that speaks TCP."""
OF_REPLICAS = frozenset(("outlier", "balance"))
"""Those that mean something only where there are several replicas."""
_UNIT = {1.0: "s", 60.0: "m", 3600.0: "h"}


def key_of(field: str) -> str:
    """`timeout_s` is `timeout` in the app file."""
    return field.removesuffix("_s")


def shown(seconds: float) -> str:
    """As in the app file: `15s`, `500ms`, `1h`; `off` for 0."""
    if seconds == 0:
        return "off"
    if seconds != int(seconds):
        milliseconds = seconds * 1000
        return f"{milliseconds:.0f}ms" if seconds < 10 else f"{seconds:.1f}s"
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{int(seconds) // size}{unit}"
    return f"{int(seconds)}s"


def words(traffic: Policy) -> dict[str, str]:
    """Key of the app file -> its value as a person reads it; only of what is said."""
    found = {}
    for field in fields(Policy):
        value = getattr(traffic, field.name)
        if value is not None:
            found[key_of(field.name)] = _word(value)
    return found


def _word(value: object) -> str:
    match value:
        case float():
            return shown(value)
        case RetryBudget():
            parts = [f"{value.percent:g}%"] if value.percent is not None else []
            parts += [f"at least {value.floor}"] if value.floor is not None else []
            return ", ".join(parts)
        case Outlier(errors=0):
            return "off"
        case Outlier():
            parts = [f"{value.errors} errors in a row"] if value.errors is not None else []
            parts += [f"for {shown(value.ejection_s)}"] if value.ejection_s is not None else []
            parts += [f"swept every {shown(value.interval_s)}"] if value.interval_s is not None else []
            parts += [f"{value.percent}% at most"] if value.percent is not None else []
            return ", ".join(parts)
        case Breaker(connections=0, pending=0, requests=0):
            return "off"
        case Breaker():
            named = {"requests": value.requests, "pending": value.pending, "connections": value.connections}
            return ", ".join(f"{count or 'any'} {what}" for what, count in named.items() if count is not None)
        case Limit(requests=0):
            return "off"
        case Limit():
            return str(value) + (f", {value.burst} at once" if value.burst is not None else "")
        case Fault():
            if not value:
                return "off"
            parts = [f"delay {shown(value.delay_s)}"] if value.delay_s else []
            parts += [f"abort {value.abort}"] if value.abort else []
            return f"{' and '.join(parts)}, {value.percent:g}% of requests"
        case _:
            return str(value) if value else "off"
