"""What an import gives: the app file's text, what became of each service, and what was not carried over."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One service of the source."""

    service: str
    """Its name there."""
    becomes: str
    """`run main:app, port 8000`; `left out`."""
    notes: tuple[str, ...] = ()
    """What was decided, and what differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Something that was not carried over, why, and what to do instead."""

    where: str
    """`web.volumes`; a key of the whole file without a dot."""
    what: str
    why: str
    way_out: str = ""

    def __str__(self) -> str:
        what = f" ({self.what})" if self.what else ""
        return f"{self.where}{what}: {self.why}" + (f"; {self.way_out}" if self.way_out else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """A variable that the app file takes from whoever runs `shoal up`."""

    name: str
    required: bool
    """Without it the app file is refused; else it is empty."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A whole import. `text` is a valid app file, as long as the required of `needed` are set."""

    kind: str
    """`compose` or `procfile`."""
    source: str
    text: str
    rows: tuple[Row, ...]
    lost: tuple[Lost, ...]
    needed: tuple[Needed, ...] = ()
    unneeded: tuple[str, ...] = ()
    """What has no place in an app file because nothing depends on it: `web.container_name`."""
