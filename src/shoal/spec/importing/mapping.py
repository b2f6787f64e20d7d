"""From a path in an image to the path in the build context that it was copied from."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from shoal.spec.importing.dockerfile import Stage
from shoal.spec.importing.reading import Folder

_DEPTH_MAX = 10


class ImageFiles:
    """What of an image comes from the build context, and from bind mounts over it."""

    def __init__(
        self, folder: Folder, context: str, stage: Stage | None, mounts: Iterable[tuple[str, str]] = ()
    ) -> None:
        """`context`: relative to `folder`. `mounts`: path relative to `folder`, and where it is in the container."""
        self.folder, self.context, self.stage = folder, context, stage
        self.mounts = [(source, posixpath.normpath(target)) for source, target in mounts]

    def find(self, path: str) -> str | None:
        """The path below the folder that stands for an absolute path in the container; None: nothing is known of it."""
        path = posixpath.normpath(path)
        for source, target in reversed(self.mounts):
            if (rest := _below(path, target)) is not None:
                return posixpath.normpath(posixpath.join(source, rest))
        return None if self.stage is None else self._in_stage(self.stage, path, 0)

    def workdir(self, path: str) -> str | None:
        """The folder that stands for a working directory: what was copied there, or around what was copied into it."""
        found = self.find(path)
        if found is not None and (found == "." or not self.folder.is_file(found)):
            return found
        return None if self.stage is None else self._around(self.stage, posixpath.normpath(path))

    def _in_stage(self, stage: Stage, path: str, depth: int) -> str | None:
        if depth > _DEPTH_MAX:
            return None
        for copy in reversed(stage.copies):
            if copy.image:
                continue
            rest = _below(path, copy.target)
            if rest is None:
                continue
            source = copy.source
            if copy.stage is not None:
                # Whether it was a folder there is not known; a file keeps its name when copied into one.
                name = posixpath.basename(source)
                inner = (
                    posixpath.join(posixpath.dirname(source), rest) if rest == name else posixpath.join(source, rest)
                )
                found = self._in_stage(copy.stage, posixpath.normpath(inner), depth + 1)
            else:
                found = self._in_context(source, rest, copy.several)
            if found is not None:
                return found
        rest = _below(path, stage.workdir) if depth else None
        around = self._around(stage, stage.workdir) if rest is not None else None
        # What a build makes beside what was copied in.
        return None if around is None or rest is None else posixpath.normpath(posixpath.join(around, rest))

    def _in_context(self, source: str, rest: str, several: bool) -> str | None:
        whole = posixpath.normpath(posixpath.join(self.context, source))
        if "*" in source or "?" in source or "[" in source:
            inner = posixpath.normpath(posixpath.join(posixpath.dirname(whole), rest))
            return inner if rest != "." and PurePosixPath(inner).match(whole) else None
        if self._is_file(whole):
            if several:
                return whole if rest == posixpath.basename(whole) else None
            return whole if rest == "." else None
        return posixpath.normpath(posixpath.join(whole, rest))

    def _around(self, stage: Stage, path: str) -> str | None:
        """`COPY app /code/app` makes /code what is around app."""
        for copy in reversed(stage.copies):
            if copy.image or copy.stage is not None:
                continue
            target = copy.target
            source = posixpath.normpath(posixpath.join(self.context, copy.source))
            if copy.several and self._is_file(source):
                target = posixpath.join(target, posixpath.basename(source))
            elif copy.several and "*" in source:
                source, target = posixpath.dirname(source) or ".", copy.target
            rest = _below(target, path)
            if rest == "." and not self._is_file(source):
                return source
            if rest is None or rest == ".":
                continue
            parts, inner = source.split("/"), rest.split("/")
            if parts[-len(inner) :] == inner:
                return "/".join(parts[: -len(inner)]) or "."
        return None

    def _is_file(self, path: str) -> bool:
        if self.folder.find(path) is not None:
            return self.folder.is_file(path)
        return re.search(r"\.\w+\Z", posixpath.basename(path)) is not None


def _below(path: str, folder: str) -> str | None:
    """The way from a folder to what is in it, `.` for itself; None: it is not in it."""
    if path == folder:
        return "."
    prefix = folder.rstrip("/") + "/"
    return path.removeprefix(prefix) if path.startswith(prefix) else None
