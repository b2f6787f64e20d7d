"""The app's history."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One line of the app's history, as people and machines read it."""

    sequence: int
    """Grows by one; the `Last-Event-ID` of the event stream."""
    at: float
    kind: str
    """The event's name: `ReplicaExited`."""
    subject: str
    """A replica, a service, or `app`, `proxy`, `daemon`."""
    message: str
    data: dict[str, object]
