"""A service on its way from a compose file to an app file."""

from __future__ import annotations

from dataclasses import dataclass, field

from shoal.spec.importing.facts import Facts
from shoal.spec.importing.known import Known, image
from shoal.spec.importing.writing import Draft


@dataclass(slots=True)
class Part:
    """Its facts, and what it becomes."""

    facts: Facts
    label: str
    """Its name in the app file."""
    port: int | None = None
    """Its port in the mesh."""
    draft: Draft | None = None
    """None: it is left out."""
    hosts: set[str] = field(default_factory=set)
    """What others may call it: its name, its aliases."""
    once: bool = False
    """Others wait for its end."""
    values: dict[str, str] = field(default_factory=dict)
    """All its variables, as they will be."""


def outside_port(part: Part, port: int | None) -> int | None:
    """Where this machine has what listens on a port of a left out service, when its container runs by itself."""
    for mapping in part.facts.published:
        if port is None or mapping.target == port:
            return mapping.host
    return port


def title_of(part: Part) -> Known | None:
    return image(part.facts.image or (part.facts.stage.base if part.facts.stage else ""))
