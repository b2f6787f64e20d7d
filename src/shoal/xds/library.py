"""What Envoy should hold, ready to be sent: each resource serialised once, versioned by the hash of its bytes.

Equal builds have equal versions, in this process and in the next: a control plane that comes back has nothing to send.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from shoal.mesh.references import Reference, references
from shoal.mesh.snapshot import ENDPOINTS, TYPES, Message, Snapshot
from shoal.xds.wire import resource_frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    name: str
    version: str
    frame: bytes
    """As a field of the response that carries it."""
    needs: frozenset[Reference] = frozenset()


@dataclass(slots=True, eq=False)
class Library:
    """The newest snapshot. One writer (`publish`); every stream reads."""

    snapshot: Snapshot | None = None
    resources: dict[str, dict[str, Resource]] = field(default_factory=lambda: {t: {} for t in TYPES})
    """type URL -> name -> resource."""

    def publish(self, snapshot: Snapshot) -> dict[str, set[str]]:
        """Takes it over; gives the names that are new, changed or gone, by type. Costs little where messages are the
        same objects as before."""
        last = self.snapshot
        before: Mapping[str, Mapping[str, Message]] = last.resources if last else {}
        changed: dict[str, set[str]] = {}
        if last is not None and snapshot.changed is not None and snapshot.version == last.version + 1:
            self.snapshot = snapshot
            endpoints = snapshot.resources[ENDPOINTS]
            some = {name for name in snapshot.changed if self._put(ENDPOINTS, name, endpoints[name])}
            return {ENDPOINTS: some} if some else {}
        for type_url in TYPES:
            old, new = before.get(type_url, {}), snapshot.resources.get(type_url, {})
            if old is not new:
                names = self._update(type_url, old, new)
                if names:
                    changed[type_url] = names
        self.snapshot = snapshot
        return changed

    def get(self, type_url: str, name: str) -> Resource | None:
        return self.resources[type_url].get(name)

    def _update(self, type_url: str, old: Mapping[str, Message], new: Mapping[str, Message]) -> set[str]:
        shelf = self.resources[type_url]
        changed = {
            name for name, new_one in new.items() if old.get(name) is not new_one and self._put(type_url, name, new_one)
        }
        for name in shelf.keys() - new.keys():
            del shelf[name]
            changed.add(name)
        return changed

    def _put(self, type_url: str, name: str, message: Message) -> bool:
        """Whether it is another than before."""
        body = message.SerializeToString(deterministic=True)
        version = hashlib.blake2b(body, digest_size=8).hexdigest()
        known = self.resources[type_url].get(name)
        if known is not None and known.version == version:
            return False
        self.resources[type_url][name] = Resource(
            name=name,
            version=version,
            frame=resource_frame(type_url, name, version, body),
            needs=references(type_url, message),
        )
        return True
