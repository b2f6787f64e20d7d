"""`files`, `volumes` and `static` of each service: what is where, read and checked."""

from __future__ import annotations

import base64
import os
from collections.abc import Collection
from pathlib import Path

from pydantic_core import PydanticCustomError

from shoal.model.app import Protocol
from shoal.model.surroundings import GivenFile, Static, Volume, VolumeKind
from shoal.spec import references
from shoal.spec.around import GivenFileFile, absolute, check_volume, volume_parts
from shoal.spec.document import Loc
from shoal.spec.problems import quoted
from shoal.spec.review import Review
from shoal.spec.schema import JobFile, ServiceFile

FILE_BYTES_MAX = 1_000_000
FILES_BYTES_MAX = 4_000_000
"""Of an app: they are part of its revisions."""
_RELATIVE = "it is relative to the app file"


class Mounts:
    """`shared`: the volumes that the app has at its top level."""

    def __init__(self, review: Review, folder: Path, shared: Collection[str]) -> None:
        self._review, self._folder, self._shared = review, folder, shared
        self._size = 0

    def files(self, loc: Loc, part: ServiceFile | JobFile, scope: references.Scope) -> tuple[GivenFile, ...]:
        found: list[GivenFile] = []
        for target, written in part.files.items():
            here = self._loc_of(loc, target)
            if (written.source is None) == (written.content is None):
                if self._review.sound(*here):
                    self._review.at_value(here, "has either 'source' or 'content'", "name a file, or give its text")
                continue
            given = self._text(here, target, written, scope) if written.source is None else self._read(
                here, target, written.source
            )  # fmt: skip
            if given is not None:
                found.append(given)
        self._needs_names(loc, part, "files")
        return tuple(found)

    def volumes(self, loc: Loc, part: ServiceFile | JobFile, scope: references.Scope) -> tuple[Volume, ...]:
        found: list[Volume] = []
        taken = dict.fromkeys((absolute(target) for target in part.files), "'files'")
        for i, written in enumerate(part.volumes):
            here = (*loc, "volumes", i)
            text, flaws = references.fill(written, scope)
            for flaw in flaws:
                self._review.at_value(here, flaw.message, flaw.way_out, offset=flaw.offset)
            if not flaws and references.is_kept(text):
                self._review.at_value(here, "a folder cannot depend on a port or another service")
            elif "$" in written and not flaws:
                try:
                    check_volume(text)
                except PydanticCustomError as error:
                    context = error.context or {}
                    self._review.at_value(here, str(context["message"]), str(context["way_out"]))
                    flaws = [references.Flaw(0, "")]
            if flaws or references.is_kept(text):
                continue
            source, target, options = volume_parts(text)
            target = os.path.normpath(target)
            holder = taken.setdefault(target, f"'{written}'")
            if holder != f"'{written}'" or written in part.volumes[:i]:
                self._review.at_value(here, f"{target} is taken by {holder} already", "remove one")
            volume = self._volume(here, source, target, read_only=options == "ro")
            if volume is not None:
                found.append(volume)
        self._needs_names(loc, part, "volumes")
        return tuple(found)

    def _volume(self, loc: Loc, source: str, target: str, *, read_only: bool) -> Volume | None:
        if "/" not in source and source not in (".", "..", "~"):
            kind = VolumeKind.SHARED if source in self._shared else VolumeKind.OWN
            return Volume(target=target, source=source, kind=kind, read_only=read_only)
        path = self._folder / Path(source).expanduser()
        if not path.exists():
            self._review.at_value(
                loc,
                f"{quoted(str(path), limit=200)} does not exist",
                f"make it; {_RELATIVE}, or give the volume a name",
            )
            return None
        return Volume(target=target, source=str(path.resolve()), kind=VolumeKind.FOLDER, read_only=read_only)

    def _loc_of(self, loc: Loc, target: str) -> Loc:
        """Where it stands: paths are written in many ways."""
        places = self._review.document.places
        written = next((place[-1] for place in places if len(place) == len(loc) + 2 and place[:-1] == (*loc, "files")
                        and os.path.normpath(str(place[-1])) == target), target)  # fmt: skip
        return (*loc, "files", written)

    def _text(self, loc: Loc, target: str, written: GivenFileFile, scope: references.Scope) -> GivenFile:
        text, flaws = references.fill(written.content or "", scope)
        for flaw in flaws:
            self._review.at_value((*loc, "content"), flaw.message, flaw.way_out, offset=flaw.offset)
        return GivenFile(target=target, content=text)

    def _read(self, loc: Loc, target: str, source: str) -> GivenFile | None:
        path = self._folder / Path(source).expanduser()
        at = (*loc, "source") if (*loc, "source") in self._review.document.places else loc
        shown = quoted(str(path), limit=200)
        if path.is_dir():
            self._review.at_value(at, f"{shown} is a folder", f"write it in 'volumes': [./{source}:{target}:ro]")
            return None
        try:
            with path.open("rb") as stream:
                data = stream.read(FILE_BYTES_MAX + 1)
                executable = os.fstat(stream.fileno()).st_mode & 0o100 != 0
        except OSError as error:
            self._review.at_value(at, f"{shown} cannot be read: {error.strerror}", _RELATIVE)
            return None
        self._size += len(data)
        if len(data) > FILE_BYTES_MAX or self._size > FILES_BYTES_MAX:
            whose = "has more than 1 MB" if len(data) > FILE_BYTES_MAX else "is one too many: all have more than 4 MB"
            self._review.at_value(at, f"{shown} {whose}", f"write it in 'volumes': [./{source}:{target}:ro]")
            return None
        content = base64.b64encode(data).decode()
        return GivenFile(target=target, content=content, encoded=True, executable=executable)

    def _needs_names(self, loc: Loc, part: ServiceFile | JobFile, key: str) -> None:
        if getattr(part, key) and isinstance(part, ServiceFile) and part.names == "env":
            self._review.at_key(
                (*loc, key), "needs a file system of its own, which 'names: env' turns off", "remove one of the two"
            )


def static(review: Review, loc: Loc, service: ServiceFile, protocol: Protocol) -> Static:
    """Of a service that has it."""
    written = service.static
    assert written is not None
    folder = written.folder or ""
    if not folder and review.sound(*loc, "static"):
        review.at_value((*loc, "static"), "'folder' is missing", "name the folder that is served")
    if protocol is not Protocol.HTTP:
        review.at_key((*loc, "static"), "files are served over HTTP", "remove 'protocol'")
    return Static(folder=folder, spa=written.spa)
