"""A service's spec and source, immutable, by number."""

from __future__ import annotations

from dataclasses import dataclass

from shoal.model.app import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A service's spec, immutable, by number."""

    service: Service
    number: int
    """Counted from 1, per service."""
    digest: str
    """Hash of all that makes a replica of it different from one of another revision (not the replica count)."""
    created_at: float
    source: str = ""
    """Digest of the snapshot of its source tree, under which the engine keeps it. Empty: it runs from the working tree
    (`shoal dev`, an outside service, a state that an older Shoal wrote)."""
