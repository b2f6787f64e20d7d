"""From Envoy's access log of denied calls to events, at most one a minute for each caller and callee."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shoal.mesh.denial import DENY_LOG, caller_of, denied_by
from shoal.mesh.snapshot import Message
from shoal.model.event import CallDenied

QUIET_S = 60.0
PAIRS_MAX = 4096
"""Pairs remembered; beyond it the oldest is forgotten, and may be reported again early."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(slots=True)
class Denials:
    _reported: dict[tuple[str, str], float] = field(default_factory=dict)
    _listeners: Mapping[str, Message] = field(default_factory=dict)
    _meant: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    """(address, port) of a listener that resets -> caller and callee."""

    def fold(self, log_name: str, entries: Iterable[Message], now: float) -> list[CallDenied]:
        """Of an `StreamAccessLogsMessage`'s HTTP entries, those worth telling. A Host header that is no service's name
        is not: it comes from a person who tries things, and it is foreign text."""
        if log_name != DENY_LOG:
            return []
        events = []
        for entry in entries:
            caller = caller_of(entry.common_properties.route_name)
            callee = entry.request.authority.partition(":")[0]
            if caller is None or not _LABEL.fullmatch(callee) or not self._is_news((caller, callee), now):
                continue
            port = entry.common_properties.downstream_local_address.socket_address.port_value
            events.append(CallDenied(at=now, caller=caller, callee=callee, port=port))
        return events

    def fold_tcp(
        self, log_name: str, entries: Iterable[Message], listeners: Mapping[str, Message], now: float
    ) -> list[CallDenied]:
        """Of its TCP entries. `listeners`: those of the newest snapshot, whose names tell who called whom; a connection
        itself says nothing but where it went."""
        if log_name != DENY_LOG:
            return []
        if listeners is not self._listeners:
            self._listeners, self._meant = listeners, denied_by(listeners)
        events = []
        for entry in entries:
            local = entry.common_properties.downstream_local_address.socket_address
            pair = self._meant.get((local.address, local.port_value))
            if pair is not None and self._is_news(pair, now):
                events.append(CallDenied(at=now, caller=pair[0], callee=pair[1], port=local.port_value))
        return events

    def _is_news(self, pair: tuple[str, str], now: float) -> bool:
        if now - self._reported.get(pair, -QUIET_S) < QUIET_S:
            return False
        self._reported.pop(pair, None)
        self._reported[pair] = now
        if len(self._reported) > PAIRS_MAX:
            del self._reported[next(iter(self._reported))]
        return True
