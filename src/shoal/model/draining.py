"""How a replica leaves: what time its requests have, and then its process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Draining:
    """Nobody is sent to it any more in either time."""

    drain_s: float = 30.0
    """How long its requests may take to end before it is told to stop; 0: it is told at once. The bound of those that
    never end by themselves (WebSockets, event streams)."""
    grace_s: float = 10.0
    """From its stop signal to SIGKILL; Docker's."""


DEFAULT_DRAINING = Draining()
