"""Reads from Envoy what it counted of the requests to each revision (`mesh.meter`), while somebody wants to know."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from shoal.errors import EngineError
from shoal.mesh.meter import METER, METERING
from shoal.model.event import TrafficSampled
from shoal.model.signals import LATENCY_BOUNDS_MS, NO_LATENCIES, Traffic, since
from shoal.ports import Clock, Inbox
from shoal.xds.admin import admin_get, admin_post

SAMPLE_S = 0.5
FAILED_CALLS = frozenset({"2", "13", "14", "15"})
"""gRPC's UNKNOWN, INTERNAL, UNAVAILABLE and DATA_LOSS. The others say something of the request."""

_LINE = re.compile(rf"envoy_{METER}_(count|timeout|time_bucket)\{{(.*)\}} (\d+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Meter:
    """Implements `ports.TrafficMeter`. `sockets`: the admin sockets of the Envoys, of which any may not be there."""

    def __init__(self, inbox: Inbox, clock: Clock, sockets: Sequence[Path]) -> None:
        self._inbox = inbox
        self._clock = clock
        self._sources = [_Source(socket) for socket in sockets]
        self._services: frozenset[str] = frozenset()
        self._changed = asyncio.Event()

    def watch(self, services: Collection[str]) -> None:
        self._services = frozenset(services)
        self._changed.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self._changed.clear()
            if not self._services:
                for source in self._sources:
                    await source.rest()
                await self._changed.wait()
                continue
            read = [await source.read(self._services) for source in self._sources]
            if any(read):
                samples = _added(source.counted for source in self._sources)
                wanted = tuple(sample for key, sample in sorted(samples.items()) if key[0] in self._services)
                await self._inbox.put(TrafficSampled(at=self._clock.now(), samples=wanted))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAMPLE_S):
                    await self._changed.wait()


Key = tuple[str, int]
"""(service, revision)"""


@dataclass
class _Source:
    """One Envoy. `counted` only grows: when Envoy begins anew at 0, what it had counted before is kept."""

    socket: Path
    counted: dict[Key, Traffic] = field(default_factory=dict)
    _before: dict[Key, Traffic] = field(default_factory=dict)

    async def rest(self) -> None:
        """Nobody asks: Envoy need not count. What it counts until it hears that harms nobody."""
        with contextlib.suppress(EngineError):
            await admin_post(f"/runtime_modify?{METERING}=0", self.socket)

    async def read(self, services: Collection[str]) -> bool:
        """Whether Envoy answered."""
        names = "|".join(sorted(map(re.escape, services)))
        pattern = quote(rf"^{METER}\.(count|timeout|time)\.service\.({names})\.", safe="")
        try:
            # Each time: an Envoy that has just been started does not count yet.
            await admin_post(f"/runtime_modify?{METERING}=100", self.socket)
            text = await admin_get(f"/stats/prometheus?usedonly&filter={pattern}", self.socket)
        except EngineError:
            return False  # it starts, or is no more: what it counted stays
        for key, found in parse(text).items():
            last = self._before.get(key)
            new = found if last is None else since(found, last)
            self._before[key] = found
            self.counted[key] = _sum(self.counted[key], new) if key in self.counted else new
        return True


def parse(text: str) -> dict[Key, Traffic]:
    """Prometheus' text format, of `mesh.meter`'s statistics; all else in it is passed over."""
    requests: dict[Key, int] = {}
    errors: dict[Key, int] = {}
    cumulated: dict[Key, list[int]] = {}
    for kind, labels, value in _lines(text):
        if not labels.get("revision", "").isdigit():
            continue  # no replica was found for it, or one whose revision nobody knows
        key = labels["service"], int(labels["revision"])
        if kind == "time_bucket":
            cumulated.setdefault(key, []).append(value)
        elif _counts(kind, labels):
            requests[key] = requests.get(key, 0) + value
            errors[key] = errors.get(key, 0) + (value if _failed(kind, labels) else 0)
    return {
        key: Traffic(
            service=key[0],
            revision=key[1],
            requests=count,
            errors=errors[key],
            latency=_single(cumulated.get(key, [])),
        )
        for key, count in requests.items()
    }


def _lines(text: str) -> Iterator[tuple[str, dict[str, str], int]]:
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is not None:
            yield match[1], dict(_LABEL.findall(match[2])), int(match[3])


def _counts(kind: str, labels: dict[str, str]) -> bool:
    """All but what ended without an answer and for no reason of the replica: the caller gave it up, or Envoy did, whose
    time-out of the whole request is counted by itself (that of a try has a flag, and counts as an attempt)."""
    if kind == "timeout":
        return labels["why"] == "response_timeout"
    return labels["code"] != "0" or labels["flags"] not in ("-", "DC", "DR")


def _failed(kind: str, labels: dict[str, str]) -> bool:
    if kind == "timeout" or labels["code"] == "0":
        return True
    return int(labels["code"]) >= 500 or labels["grpc"] in FAILED_CALLS


def _single(cumulated: Sequence[int]) -> tuple[int, ...]:
    if len(cumulated) != len(LATENCY_BOUNDS_MS) + 1:
        return NO_LATENCIES  # of an Envoy that an older Shoal started, with other buckets
    return tuple(here - below for below, here in zip((0, *cumulated), cumulated, strict=False))


def _sum(a: Traffic, b: Traffic) -> Traffic:
    return replace(
        a,
        requests=a.requests + b.requests,
        errors=a.errors + b.errors,
        latency=tuple(x + y for x, y in zip(a.latency, b.latency, strict=True)),
    )


def _added(counts: Iterable[dict[Key, Traffic]]) -> dict[Key, Traffic]:
    whole: dict[Key, Traffic] = {}
    for counted in counts:
        for key, traffic in counted.items():
            whole[key] = _sum(whole[key], traffic) if key in whole else traffic
    return whole
