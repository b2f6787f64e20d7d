"""All replicas by id, which also know whose they are and what has changed.

With a thousand services, one of which changes, who asks for the replicas of one or for what is new must not have to
look at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shoal.model.replica import Replica, ReplicaState


class Replicas(dict[str, Replica]):
    """A dict that is written by item alone."""

    def __init__(self, given: Mapping[str, Replica] | None = None) -> None:
        super().__init__()
        self._of: dict[str, dict[str, Replica]] = {}
        self._changed: dict[str, int] = {}
        """Service -> the change that was its last one; the newest at the end."""
        self.changes = 0
        """How many there were."""
        self.not_ready: dict[str, Replica] = {}
        """By id, nearly none, nearly always."""
        self.unsettled: set[str] = set()
        """The services that changed since the planner found them as `wanted`. It saves looking at all others again,
        and decides nothing."""
        self.wanted: object = None
        for name, replica in (given or {}).items():
            self[name] = replica

    def __setitem__(self, name: str, replica: Replica) -> None:
        if self.get(name) is replica:
            return
        super().__setitem__(name, replica)
        if replica.state is ReplicaState.READY:
            self.not_ready.pop(name, None)
        else:
            self.not_ready[name] = replica
        self._of.setdefault(replica.service, {})[name] = replica
        self._note(replica.service)

    def __delitem__(self, name: str) -> None:
        service = self[name].service
        super().__delitem__(name)
        self.not_ready.pop(name, None)
        group = self._of[service]
        del group[name]
        if not group:
            del self._of[service]
        self._note(service)

    def pop(self, name: str, default: Any = None) -> Any:
        found = self.get(name, default)
        if name in self:
            del self[name]
        return found

    def of(self, service: str) -> list[Replica]:
        """By number."""
        return sorted(self._of.get(service, {}).values(), key=lambda replica: replica.number)

    @property
    def services(self) -> Mapping[str, object]:
        """Those that have replicas."""
        return self._of

    def changed_since(self, changes: int) -> Iterator[str]:
        """The services of which a replica is another than after so many changes, came or went."""
        for service in reversed(self._changed):
            if self._changed[service] <= changes:
                return
            yield service

    def _note(self, service: str) -> None:
        self.changes += 1
        self._changed.pop(service, None)
        self._changed[service] = self.changes
        self.unsettled.add(service)
