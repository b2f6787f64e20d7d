"""What of a folder is source: a list of files, links and folders, as they are now. Reads names, no contents."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from shoal.engines.local.sources.rules import OWN, Rules
from shoal.errors import EngineError

BYTES_MAX = 200 * 1000 * 1000
FILES_MAX = 100_000
_NAMED = 5
"""So many of the biggest folders are named."""


class Entry(NamedTuple):
    """One file, link or folder. (A dataclass takes five times as long to make, and there may be 100,000.)"""

    path: str
    """Relative to the listed folder, with `/`."""
    source: str
    """Absolute: where its content is, also that of what a link outside leads to."""
    mode: int
    """0o644, 0o755, or 0o600, 0o700 where only its owner may read it; of a folder 0o755, of a link 0."""
    size: int = 0
    stamp: tuple[int, int, int] = (0, 0, 0)
    """mtime and ctime in ns, inode."""
    target: str = ""
    """Of a link."""

    @property
    def is_folder(self) -> bool:
        return self.source == ""

    @property
    def is_link(self) -> bool:
        return self.target != ""


@dataclass(slots=True)
class Tree:
    """What was found in one folder."""

    entries: list[Entry] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    """Sockets, pipes and devices, relative: they are left out."""
    left_out: list[str] = field(default_factory=list)
    """Files and folders that the rules leave out, relative; at most 1,000."""


def listed(folder: Path, *, without: frozenset[str] = frozenset()) -> Tree:
    """`without`: absolute paths that are no source, whatever the rules say. EngineError: a part cannot be read, or it
    is too large."""
    walk = _Walk(str(folder), without)
    walk.run()
    return walk.tree


class _Walk:
    def __init__(self, root: str, without: frozenset[str]) -> None:
        self.tree = Tree()
        self._root, self._without = root, without
        self._real = os.path.realpath(root)
        self._bytes = 0
        self._files = 0

    def run(self) -> None:
        self._folder(self._root, "", Rules.above(Path(self._root)), (self._real,))
        if self._bytes > BYTES_MAX or self._files > FILES_MAX:
            raise self._too_large()

    def _folder(self, folder: str, prefix: str, rules: Rules, real: tuple[str, ...]) -> None:
        """`real`: the real paths of the folders that we are in, so that no link leads in a circle."""
        try:
            with os.scandir(folder) as found:
                inside = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise _unreadable(folder, error) from error
        names = frozenset(entry.name for entry in inside)
        rules = rules.entering(folder, names)
        for entry in inside:
            path = f"{prefix}{entry.name}"
            try:
                self._entry(entry, path, rules, real)
            except FileNotFoundError:
                continue  # gone since it was listed
            except OSError as error:
                raise _unreadable(entry.path, error) from error

    def _entry(self, entry: os.DirEntry[str], path: str, rules: Rules, real: tuple[str, ...]) -> None:
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.path in self._without:
            return
        # A virtual environment under another name says what it is.
        if rules.leave_out(entry.path, is_folder=is_folder) or (
            is_folder and os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))  # noqa: PTH110, PTH118 - 5,000 of them
        ):
            if len(self.tree.left_out) < 1000:
                self.tree.left_out.append(path)
        elif is_folder:
            self._add_folder(entry.path, path, rules, real)
        elif entry.is_symlink():
            self._link(entry, path, rules, real)
        else:
            self._file(entry.path, path, entry.stat(follow_symlinks=False))

    def _add_folder(self, folder: str, path: str, rules: Rules, real: tuple[str, ...]) -> None:
        self.tree.entries.append(Entry(path, "", 0o755))
        self._folder(folder, f"{path}/", rules, real)

    def _file(self, source: str, path: str, info: os.stat_result) -> None:
        if not stat.S_ISREG(info.st_mode):
            self.tree.odd.append(path)
            return
        mode = 0o755 if info.st_mode & 0o100 else 0o644
        if info.st_mode & 0o077 == 0:
            mode &= 0o700
        stamp = (info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
        self.tree.entries.append(Entry(path, source, mode, info.st_size, stamp))
        self._bytes += info.st_size
        self._files += 1
        if self._files > 10 * FILES_MAX:
            raise self._too_large()

    def _link(self, entry: os.DirEntry[str], path: str, rules: Rules, real: tuple[str, ...]) -> None:
        """Inside the folder it stays a link; what it leads to outside is copied, for it may change."""
        target = os.readlink(entry.path)  # noqa: PTH115
        leads_to = os.path.realpath(entry.path)
        if leads_to == self._real or leads_to.startswith(f"{self._real}/"):
            if target.startswith("/"):
                target = os.path.relpath(leads_to, os.path.realpath(os.path.dirname(entry.path)))  # noqa: PTH120
            self.tree.entries.append(Entry(path, entry.path, 0, target=target))
            return
        try:
            info = entry.stat()
        except OSError:
            self.tree.entries.append(Entry(path, entry.path, 0, target=target))  # leads nowhere, here and there
            return
        if not stat.S_ISDIR(info.st_mode):
            self._file(leads_to, path, info)
        elif any(leads_to == parent or parent.startswith(f"{leads_to.rstrip('/')}/") for parent in real):
            raise EngineError(
                f"the link {entry.path} leads to a folder that it is in itself, {leads_to}",
                way_out=f"remove it, or name it in {self._root}/{OWN}",
            )
        else:
            self.tree.entries.append(Entry(path, "", 0o755))
            self._folder(leads_to, f"{path}/", rules, (*real, leads_to))

    def _too_large(self) -> EngineError:
        sizes: Counter[str] = Counter()
        for entry in self.tree.entries:
            for folder in _parents(entry.path):
                sizes[folder] += entry.size
        biggest = ", ".join(f"{name} ({_megabytes(size)})" for name, size in sizes.most_common(_NAMED))
        return EngineError(
            f"{self._root} is too large to be a service's source: {self._files:,} files, {_megabytes(self._bytes)}; "
            f"at most {FILES_MAX:,} files and {_megabytes(BYTES_MAX)}. The biggest: {biggest}",
            way_out=f"name what is no source in {self._root}/{OWN} (it is written as .gitignore is), or keep data in "
            "SHOAL_DATA_DIR",
        )


def _parents(path: str) -> Iterator[str]:
    """Its folders, two deep; of a file at the top itself."""
    parts = path.split("/")
    if len(parts) == 1:
        yield path
    for depth in range(1, min(len(parts), 3)):
        yield "/".join(parts[:depth]) + "/"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 10e6 else f"{size / 1e6:,.0f} MB"


def _unreadable(path: str, error: OSError) -> EngineError:
    return EngineError(
        f"{path} cannot be read for the revision: {error.strerror}",
        way_out=f"make it readable (chmod u+rX), or name it in a {OWN} file if it is no source",
    )
