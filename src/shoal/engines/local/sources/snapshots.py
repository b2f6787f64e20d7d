"""Snapshots of source trees: what a revision's code is, whatever happens to the working tree afterwards.

    <state>/sources/<digest>/tree/<name>/...    the files, as they were
    <state>/sources/<digest>/snapshot.json      what they are, and where in the tree the service is
    <state>/sources/memory/<hash>.json          the hashes of a working tree (see `digests`)
    <state>/sources/.new-*                      one that is being taken; half of one, when nobody is

Nothing starts in a snapshot: replicas run in a copy of it (see `copies`). So files that did not change can be one file
in several snapshots, by hard links.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shoal.engines.local import interpreters, recipes
from shoal.engines.local.sources.copying import ChangingError, copy_hashed, remove, unwritable
from shoal.engines.local.sources.digests import Memory, hash_of, tree_digest
from shoal.engines.local.sources.tree import Entry, Tree, listed
from shoal.errors import EngineError
from shoal.model.app import App, Service
from shoal.model.resources import Resource

MARK = "snapshot.json"
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A service's source tree as it is now: its own folder, and what of its environment is made from outside it."""

    base: Path
    """The folder that all entries are relative to."""
    folder: str
    """The service's, relative to `base`; `.`: the same."""
    entries: tuple[Entry, ...]
    own: Tree
    """Of the service's folder alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    digest: str
    origin: Path
    """The folder in the working tree that it was taken of."""
    root: Path
    """The folder in it that stands for that."""
    folder: Path
    """The service's, below `root` or the same."""
    entries: tuple[Entry, ...]
    """Their `source` is in the snapshot."""
    hashes: tuple[str, ...]
    """Of the entries' contents, in the same order."""
    left_out: tuple[str, ...]
    """What of the service's folder is not part of it, relative to that."""

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.entries)


def runs_in_place(service: Service, app: App) -> bool:
    """Whether it has no snapshot: it is outside, or developed, or its folder is neither in the app's folder nor beside
    it (`cwd: /usr/share/x`)."""
    folder, beside = Path(service.folder), Path(app.folder).parent
    if isinstance(service.workload, Resource):
        return True
    if service.is_external or app.dev or folder.is_relative_to(app.folder):
        return service.is_external or app.dev
    return beside == beside.parent or beside == Path.home() or not folder.is_relative_to(beside) or folder == beside


class Snapshots:
    """`folder`: where they are kept. One process at a time; every method blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._whole: set[str] = set()
        """Seen to be so since we started."""

    def sweep(self) -> None:
        """Removes what somebody who was killed left behind."""
        for left in self._folder.glob(".*-*"):
            remove(left)

    def take(self, service: Service, app: App, *, keep: bool) -> tuple[str, Source]:
        """The digest of its source tree as it is now. `keep`: the snapshot exists afterwards. EngineError."""
        folder = Path(service.folder)
        memory = Memory(self._folder / "memory" / f"{hash_of([os.fsencode(folder)])}.json")
        for _ in range(_TRIES):
            source = source_of(service, app)
            try:
                digest = self._take(source, memory, keep)
            except (ChangingError, FileNotFoundError):
                continue
            except PermissionError as error:
                raise EngineError(
                    f"{error.filename} cannot be read for the revision: {error.strerror}",
                    way_out="make it readable (chmod u+r), or name it in a .shoalignore file if it is no source",
                ) from error
            except OSError as error:
                size = sum(entry.size for entry in source.entries)
                raise unwritable(self._folder, error, size) from error
            if keep:
                memory.keep(digest)
            return digest, source
        raise EngineError(
            f"the files in {folder} change while they are copied",
            way_out="try again when they are quiet; name what a program writes there in .shoalignore",
        )

    def find(self, digest: str) -> Snapshot:
        """EngineError: it is not there, or was damaged."""
        home = self._folder / digest
        try:
            content = json.loads((home / MARK).read_bytes())
            root = home / "tree" / content["name"]
            rows = content["entries"]
        except (OSError, ValueError, KeyError) as error:
            raise EngineError(
                f"the snapshot {digest} of the source is not in {self._folder} any more",
                way_out="take a new one of what is there now: shoal up",
            ) from error
        entries = tuple(
            Entry(path, f"{root}/{path}" if size is not None else "", mode, size or 0, (0, 0, 0), target)
            for path, mode, size, target, _ in rows
        )
        return Snapshot(
            digest=digest,
            origin=Path(content["root"]),
            root=root,
            folder=root / content["folder"],
            entries=entries,
            hashes=tuple(row[4] for row in rows),
            left_out=tuple(content["left_out"]),
        )

    def known(self) -> Iterator[str]:
        """The digests of those that are there."""
        try:
            names = sorted(path.name for path in self._folder.iterdir())
        except OSError:
            return
        yield from (name for name in names if not name.startswith(".") and name != "memory")

    def remove(self, digest: str) -> None:
        """Its mark first, so that nobody believes what is left of it."""
        (self._folder / digest / MARK).unlink(missing_ok=True)
        remove(self._folder / digest)

    def _take(self, source: Source, memory: Memory, keep: bool) -> str:
        hashes = [memory.hash(entry) for entry in source.entries]
        digest = tree_digest(zip(source.entries, hashes, strict=True), source.folder)
        if not keep or self._is_whole(digest):
            return digest
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
        try:
            root = new / "tree" / source.base.name
            root.mkdir(parents=True)
            copied = _copy(source, hashes, root, self._linkable(memory.last))
            digest = tree_digest(zip(source.entries, copied, strict=True), source.folder)
            _write_mark(new, source, copied)
            if not self._is_whole(digest):
                remove(self._folder / digest)
                new.rename(self._folder / digest)
        finally:
            remove(new)
        return digest

    def _is_whole(self, digest: str) -> bool:
        """By its mark, and by what a crash of the machine does to files that were not on the disk yet."""
        if digest in self._whole:
            return (self._folder / digest / MARK).exists()
        try:
            snapshot = self.find(digest)
        except EngineError:
            return False
        files = (entry for entry in snapshot.entries if not entry.is_folder and not entry.is_link)
        try:
            whole = all(os.lstat(entry.source).st_size == entry.size for entry in files)
        except OSError:
            return False
        if whole:
            self._whole.add(digest)
        return whole

    def _linkable(self, last: str) -> dict[tuple[str, int], str]:
        """By content and mode: the files of the snapshot before; none of one that is damaged."""
        if not last or not self._is_whole(last):
            return {}
        snapshot = self.find(last)
        pairs = zip(snapshot.entries, snapshot.hashes, strict=True)
        return {(content, entry.mode): entry.source for entry, content in pairs if content}


def source_of(service: Service, app: App) -> Source:
    """EngineError: a part cannot be read, or it is too large."""
    folder, app_folder = Path(service.folder).resolve(), Path(app.folder).resolve()
    # What of it matters to a replica is in the spec; the rest, such as `replicas`, makes no revision.
    without = frozenset({str(app_folder / "shoal.yaml")})
    own = listed(folder, without=without)
    outside = _inputs_outside(folder, app_folder)
    base = Path(os.path.commonpath([folder, *outside]))
    prefix = "" if folder == base else f"{folder.relative_to(base)}/"
    entries = {f"{prefix}{entry.path}": entry for entry in own.entries}
    for path in outside:
        at = str(path.relative_to(base))
        # Wanted by name, so no rule leaves it out: some ignore their lock file.
        found = listed(path, without=without).entries if path.is_dir() else [_file_entry(path)]
        for entry in found:
            entries.setdefault(f"{at}/{entry.path}" if path.is_dir() else at, entry)
    placed = (Entry(path, e.source, e.mode, e.size, e.stamp, e.target) for path, e in entries.items())
    return Source(base=base, folder=str(folder.relative_to(base)), entries=tuple(placed), own=own)


def _inputs_outside(folder: Path, app_folder: Path) -> list[Path]:
    """What its environment is made from and its own listing may lack: the lock of a workspace, a library beside it,
    which Python or Node it is made with."""
    pins = interpreters.pins(list(recipes.upward(folder, app_folder)))
    recipe = recipes.find(folder, app_folder)
    if not recipe.builds:
        return pins
    near = [path for path in recipe.inputs if path.is_relative_to(app_folder.parent) or path.is_relative_to(folder)]
    # A folder inside is listed already. One that the service's own is in is listed whole: it is what is installed.
    return [*pins, *(path for path in near if not (path.is_dir() and path.is_relative_to(folder)))]


def _file_entry(path: Path) -> Entry:
    try:
        info = path.stat()
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}") from error
    return Entry("", str(path), 0o644, info.st_size, (info.st_mtime_ns, info.st_ctime_ns, info.st_ino))


def _copy(source: Source, hashes: list[str], root: Path, linkable: dict[tuple[str, int], str]) -> list[str]:
    """The hashes of what was copied, in the entries' order. Raises ChangingError, OSError."""
    made: set[str] = set()
    found: list[str] = []
    for entry, content in zip(source.entries, hashes, strict=True):
        target = f"{root}/{entry.path}"
        parent = target.rpartition("/")[0]
        if parent not in made:
            os.makedirs(parent, exist_ok=True)  # noqa: PTH103 - 5,000 of them
            made.add(parent)
        if entry.is_folder:
            os.makedirs(target, exist_ok=True)  # noqa: PTH103
        elif entry.is_link:
            os.symlink(entry.target, target)  # noqa: PTH211
        elif not _linked(linkable.get((content, entry.mode)), target):
            # Nobody writes into a snapshot, not even its owner by mistake.
            mtime = entry.stamp[0]
            found.append(copy_hashed(entry.source, target, entry.mode & 0o555, (mtime, mtime)))
            continue
        found.append(content)
    return found


def _linked(known: str | None, target: str) -> bool:
    if known is None:
        return False
    try:
        os.link(known, target)
    except OSError:
        return False  # gone, or it has as many names as the file system allows
    return True


def _write_mark(home: Path, source: Source, hashes: list[str]) -> None:
    rows = [
        [entry.path, entry.mode, None if entry.is_folder else _size(home, source, entry), entry.target, content]
        for entry, content in zip(source.entries, hashes, strict=True)
    ]
    content = {
        "name": source.base.name,
        "folder": source.folder,
        "root": str(source.base),
        "left_out": source.own.left_out,
        "entries": rows,
    }
    with (home / MARK).open("w", encoding="utf-8") as file:
        json.dump(content, file)


def _size(home: Path, source: Source, entry: Entry) -> int:
    """Of what was copied, which may be newer than what was listed."""
    if entry.is_link:
        return 0
    return os.lstat(home / "tree" / source.base.name / entry.path).st_size
