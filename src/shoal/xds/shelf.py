"""What one client wants, has and lacks of one type of resource."""

from __future__ import annotations

from dataclasses import dataclass, field

from shoal.xds.library import Resource


@dataclass(slots=True, kw_only=True)
class Refusal:
    version: str
    message: str
    times: int
    retry_at: float


@dataclass(slots=True, kw_only=True)
class Flight:
    """A response that is not confirmed yet."""

    number: int
    sent: dict[str, Resource | None]
    """None: removed."""


@dataclass(slots=True)
class Shelf:
    """What this client wants, has and lacks of one type."""

    seen: bool = False
    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)
    """name -> version that it confirmed or declared."""
    due: set[str] = field(default_factory=set)
    """Names to look at: they may have to be sent."""
    forced: set[str] = field(default_factory=set)
    """Names to send even if the client has that version."""
    split: list[tuple[str, ...]] = field(default_factory=list)
    """Parts of a refused response, each to be sent on its own."""
    refused: dict[str, Refusal] = field(default_factory=dict)
    flight: Flight | None = None
    owes_answer: bool = False
    """A client that starts waits for a first response even if there is nothing to say."""

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names
