"""An event as it travels: a CloudEvent 1.0 in JSON, with the trace context of the request that made it."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shoal.sdk import context

BYTES_MAX = 1_000_000
"""NATS takes a MiB, headers and all. One that is larger would stay in the outbox for ever, and those behind it."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_TYPE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_PATTERN = re.compile(r"(\*|[A-Za-z0-9_-]+)(\.(\*|[A-Za-z0-9_-]+))*(\.>)?|>")


class MalformedError(ValueError):
    """Bytes that are no CloudEvent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    id: str
    """Unique. What is published twice has the same one."""
    source: str
    """The service that made it: `product-service`."""
    type: str
    """`product.changed`."""
    subject: str
    """What it is about: an id."""
    time: str
    """RFC 3339, UTC."""
    data: Any
    """As JSON has it."""
    traceparent: str = ""
    tracestate: str = ""

    @property
    def channel(self) -> str:
        """The NATS subject."""
        return f"events.{self.source}.{self.type}"

    def to_json(self) -> str:
        fields: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": self.time,
            "datacontenttype": "application/json",
            "data": self.data,
        }
        if self.traceparent:
            fields["traceparent"] = self.traceparent
            if self.tracestate:
                fields["tracestate"] = self.tracestate
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, raw: bytes | str) -> Event:
        """MalformedError."""
        try:
            fields = json.loads(raw)
            wanted = {name: fields[name] for name in ("id", "source", "type")}
            optional = {name: fields.get(name, "") for name in ("subject", "time", "traceparent", "tracestate")}
            data = fields.get("data")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise MalformedError(f"not a CloudEvent in JSON: {error!r}") from error
        if not all(isinstance(value, str) for value in (*wanted.values(), *optional.values())):
            raise MalformedError("not a CloudEvent: an attribute is no string")
        return cls(**wanted, **optional, data=data)


def new(source: str, type: str, subject: str, data: Any) -> Event:  # noqa: A002 - CloudEvents' own word
    """Made now. ValueError: a name that cannot be a NATS subject, or data that JSON has no words for."""
    check_source(source)
    if not _TYPE.fullmatch(type):
        raise ValueError(f"an event's type is words with dots between, such as product.changed; not {type!r}")
    here = context.current()
    made = Event(
        id=str(uuid.uuid4()),
        source=source,
        type=type,
        subject=subject,
        time=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        data=data,
        traceparent=here.traceparent,
        tracestate=here.tracestate,
    )
    try:
        size = len(made.to_json().encode())
    except (TypeError, ValueError) as error:
        raise ValueError(f"the data of {type} cannot be JSON: {error}") from error
    if size > BYTES_MAX:
        raise ValueError(
            f"an event of {type} has {size} bytes, and NATS takes {BYTES_MAX} at most; send where the data is"
        )
    return made


def check_source(source: str) -> None:
    """ValueError."""
    if not _TOKEN.fullmatch(source):
        raise ValueError(f"an event's source is the name of a service; not {source!r}")


def pattern(source: str, type: str) -> str:  # noqa: A002
    """The NATS subjects of some types: `*` is one word, `>` all that follow. ValueError."""
    check_source(source)
    if not _PATTERN.fullmatch(type):
        raise ValueError(f"cannot subscribe to {type!r}; write a type such as product.changed, product.* or >")
    return f"events.{source}.{type}"


def matches(wanted: str, channel: str) -> bool:
    want, have = wanted.split("."), channel.split(".")
    if want[-1] == ">":
        want, have = want[:-1], have[: len(want) - 1] if len(have) >= len(want) else []
    return len(want) == len(have) and all(w in ("*", h) for w, h in zip(want, have, strict=True))
