"""How far data that services copy from one another is behind: events on their way, dead letters, full outboxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxLag:
    """One inbox of `shoal.sdk.inbox`, which all replicas of its service share."""

    consumer: str
    """Its name, usually the service's own."""
    behind: int
    """Events that it has not applied yet, with the one under way."""
    dead_letters: int
    """Events that it could not apply, and that wait for somebody to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxLag:
    """The outbox of `shoal.sdk.outbox` in one service's database."""

    pending: int
    """Events that are committed and not published yet."""
    oldest_s: float
    """Age of the oldest of them when it was looked at; 0 when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """One reading of all of an app's brokers and databases."""

    inboxes: tuple[InboxLag, ...] = ()
    outboxes: Mapping[str, OutboxLag] = field(default_factory=dict)
    """By service; those that have none are left out."""
    silent_brokers: Mapping[str, str] = field(default_factory=dict)
    """Resource -> why it could not be read."""
    silent_databases: Mapping[str, str] = field(default_factory=dict)
    """Service -> why its database could not be read."""


NOTHING = Lag()
