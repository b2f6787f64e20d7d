"""The folders that replicas start in: writable copies of snapshots, with what a build step made.

    <state>/builds/<key>/<name>/...    the copy
    <state>/builds/<key>.json          written last: without it the folder is half of one, and is made again
    <state>/builds/<key>.lock          held while it is made, by what the build started too

A program may write beside its code, as it could without Shoal: a read-only tree would break each app with an SQLite
file at the first try. What it writes stays with the revision, and the next one has a copy of its own; `written` finds
it, so that somebody is told.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shoal.engines.local.filelock import FileLock
from shoal.engines.local.sources.copying import clone, remove, unwritable
from shoal.engines.local.sources.snapshots import Snapshot
from shoal.errors import EngineError

Progress = Callable[[str], Awaitable[None]]
Build = Callable[["Copy", int], Awaitable[None]]
"""Fills a copy; is given the lock's descriptor, for its processes to hold."""

_MADE_BY_TOOLS = frozenset({"__pycache__", "node_modules", ".cache", ".pytest_cache", ".mypy_cache", ".next", ".turbo"})
_SEEN_MAX = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    key: str
    root: Path
    folder: Path
    """The service's, below `root` or the same."""


class Copies:
    """`folder`: where they are kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def locate(self, snapshot: Snapshot, key: str) -> Copy:
        """Where it is, or will be."""
        root = self._folder / key / snapshot.root.name
        return Copy(key=key, root=root, folder=root / snapshot.folder.relative_to(snapshot.root))

    def is_ready(self, copy: Copy) -> bool:
        return copy.folder.is_dir() and _marked(self._mark(copy.key)) is not None

    async def ready(self, snapshot: Snapshot, key: str, progress: Progress, build: Build | None = None) -> Copy:
        """Makes it unless it exists. EngineError: why not."""
        copy = self.locate(snapshot, key)
        if await asyncio.to_thread(self.is_ready, copy):
            return copy
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self._folder, error) from error
        lock = FileLock(self._folder / f"{key}.lock")
        async with lock.held(lambda: progress("waits for the copy that another replica makes")) as descriptor:
            if not await asyncio.to_thread(self.is_ready, copy):
                await self._make(snapshot, copy, build, descriptor)
        return copy

    async def _make(self, snapshot: Snapshot, copy: Copy, build: Build | None, descriptor: int) -> None:
        try:
            await asyncio.to_thread(self._fill, snapshot, copy)
            if build is not None:
                await build(copy, descriptor)
            await asyncio.to_thread(self._finish, copy, snapshot.digest)
        except OSError as error:
            await asyncio.to_thread(self.remove, copy.key)
            raise unwritable(self._folder, error, snapshot.size) from error
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self.remove, copy.key))
            raise

    def _fill(self, snapshot: Snapshot, copy: Copy) -> None:
        self.remove(copy.key)
        copy.root.mkdir(mode=0o700, parents=True)
        made: set[str] = set()
        for entry in snapshot.entries:
            target = f"{copy.root}/{entry.path}"
            parent = target.rpartition("/")[0]
            if parent not in made:
                os.makedirs(parent, exist_ok=True)  # noqa: PTH103 - 5,000 of them
                made.add(parent)
            if entry.is_folder:
                os.makedirs(target, exist_ok=True)  # noqa: PTH103
            elif entry.is_link:
                os.symlink(entry.target, target)  # noqa: PTH211
            else:
                try:
                    clone(entry.source, target, entry.mode)
                except FileNotFoundError as error:
                    raise EngineError(
                        f"the snapshot of the source is damaged: {entry.source} is missing",
                        way_out="take a new one of what is there now: shoal up",
                    ) from error

    def _finish(self, copy: Copy, source: str) -> None:
        seen = dict(_files(copy.root))
        mark = self._mark(copy.key)
        temporary = mark.with_suffix(".tmp")
        temporary.write_text(json.dumps({"root": str(copy.root), "source": source, "files": seen}), "utf-8")
        temporary.replace(mark)

    def key_of(self, folder: Path) -> str | None:
        """Of the copy that a folder is in; None: it is in none."""
        try:
            return folder.relative_to(self._folder).parts[0]
        except (ValueError, IndexError):
            return None

    def written(self, key: str) -> list[str]:
        """Files that are new or changed since it was made, relative to its root; empty for one that is not there."""
        mark = _marked(self._mark(key))
        if mark is None:
            return []
        root, known = Path(str(mark["root"])), mark["files"]
        assert isinstance(known, dict)
        return sorted(path for path, stamp in _files(root) if known.get(path) != stamp)

    def known(self) -> dict[str, str]:
        """The digest of its snapshot, by key; empty for half of a copy."""
        try:
            keys = [path.name for path in self._folder.iterdir() if path.is_dir()]
        except OSError:
            return {}
        return {key: str((_marked(self._mark(key)) or {}).get("source", "")) for key in keys}

    def rescue(self, key: str, into: Path) -> list[str]:
        """Moves what programs wrote in it to a folder of its own. Raises OSError."""
        written = self.written(key)
        root = next(path for path in (self._folder / key).iterdir())
        for path in written:
            target = into / path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (root / path).rename(target)
        return written

    def remove(self, key: str) -> None:
        """Its mark first, so that nobody believes what is left of it."""
        self._mark(key).unlink(missing_ok=True)
        if (self._folder / key).exists():
            remove(self._folder / key)

    def _mark(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def _marked(mark: Path) -> dict[str, object] | None:
    try:
        content: dict[str, object] = json.loads(mark.read_bytes())
    except (OSError, ValueError):
        return None
    return content


def _files(root: Path) -> Iterator[tuple[str, list[int]]]:
    """Size and mtime of the files, but for those that tools make beside code; at most some 20,000 of them."""
    count = 0
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _MADE_BY_TOOLS]
        for name in names:
            path = f"{folder}/{name}"
            try:
                info = os.lstat(path)
            except OSError:
                continue
            yield os.path.relpath(path, root), [info.st_size, info.st_mtime_ns]
            count += 1
        if count > _SEEN_MAX:
            return
