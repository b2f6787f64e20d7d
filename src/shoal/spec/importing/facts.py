"""What is known of one service of a compose file."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

from shoal.spec.importing import notation
from shoal.spec.importing.commands import Command
from shoal.spec.importing.dockerfile import Stage
from shoal.spec.importing.mapping import ImageFiles
from shoal.spec.importing.notation import Mount, PortMapping
from shoal.spec.importing.report import Lost


class Kind(Enum):
    NATIVE = "native"
    """Its command can be started here."""
    OUTSIDE = "outside"
    """An image that somebody else makes."""
    STATIC = "static"
    """Files that a web server serves."""
    UNKNOWN = "unknown"
    """What it runs was not found."""


@dataclass(slots=True)
class Facts:
    """What is known of a service. Paths are relative to the compose file's folder."""

    name: str
    parts: dict[str, Any]
    kind: Kind = Kind.UNKNOWN
    image: str = ""
    stage: Stage | None = None
    files: ImageFiles | None = None
    command: Command | None = None
    cwd: str = "."
    workdir: str = "/"
    port: int | None = None
    """Where it listens, as far as is known."""
    moved: bool = False
    """Its command listens on `$PORT`."""
    mappings: list[PortMapping] = field(default_factory=list)
    """Of `ports:`, then of `expose:` and EXPOSE."""
    mounts: list[Mount] = field(default_factory=list)
    why: str = ""
    """Of an unknown one."""
    way_out: str = ""
    notes: list[str] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    further: dict[str, int] = field(default_factory=dict)
    """Ports beside the main one, by a name."""
    given: dict[str, str] = field(default_factory=dict)
    """Secrets and configs: path in the container -> file."""
    inline: dict[str, str] = field(default_factory=dict)
    """The same with their text: path in the container -> text, with references as the app file has them."""
    carried: set[str] = field(default_factory=set)
    """Mounts that the app file has too, as written."""
    site: str = ""
    """The folder of a static site."""

    def lose(self, key: str, what: str, why: str, way_out: str = "") -> None:
        self.lost.append(Lost(where=f"{self.name}.{key}", what=notation.short(what), why=why, way_out=way_out))

    @property
    def published(self) -> list[PortMapping]:
        return [mapping for mapping in self.mappings if mapping.host is not None and mapping.protocol == "tcp"]


def relative_path(path: str, start: str) -> str:
    """From a folder to a path, both relative to the same folder."""
    ours, theirs = PurePosixPath(path).parts, PurePosixPath(start).parts
    common = 0
    while common < min(len(ours), len(theirs)) and ours[common] == theirs[common]:
        common += 1
    return "/".join([*[".."] * (len(theirs) - common), *ours[common:]]) or "."
