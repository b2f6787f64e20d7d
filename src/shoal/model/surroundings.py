"""What a service's processes find beside their variables: files at absolute paths, and folders that stay."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Static:
    """`static:` a folder of files, served over HTTP by Shoal's own server."""

    folder: str
    """Absolute, or relative to the service's folder."""
    spa: bool = False
    """A path that is no file is answered with `index.html`."""

    def __str__(self) -> str:
        return f"{self.folder}{' (spa)' if self.spa else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenFile:
    """A file at an absolute path, for one service alone. Its content is part of the revision."""

    target: str
    content: str
    """Text, in which `${port}` and `${service.url}` are filled in at the start of a replica; or, `encoded`, bytes."""
    encoded: bool = False
    """`content` is base64, and stays as it is."""
    executable: bool = False


class VolumeKind(StrEnum):
    OWN = "own"
    """A named folder of the service, kept in the app's state folder."""
    SHARED = "shared"
    """A named folder of the app, the same for every service that names it."""
    FOLDER = "folder"
    """A folder, or a file, of the user's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A folder at an absolute path, for one service alone. What is written there outlives replica and revision."""

    target: str
    source: str
    """A name; of a FOLDER, its absolute path."""
    kind: VolumeKind
    read_only: bool = False

    def __str__(self) -> str:
        return f"{self.source}:{self.target}{':ro' if self.read_only else ''}"
