"""The digest of a source tree, and the memory that makes it cheap: what was hashed is not read again while its size,
its times and its inode are the same."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from shoal.engines.local.sources.tree import Entry

RACY_NS = 50_000_000
"""A file that was changed so shortly before it was hashed may change again within the same tick of the file system's
clock, and look the same: it is not remembered. (git's rule for its index.)"""
_BLOCK = 1 << 20
_VERSION = 1


def hash_of(chunks: Iterable[bytes]) -> str:
    sha = hashlib.blake2b(digest_size=16)
    for chunk in chunks:
        sha.update(chunk)
    return sha.hexdigest()


def tree_digest(entries: Iterable[tuple[Entry, str]], folder: str) -> str:
    """32 hex digits. Of names, contents (their hashes come beside the entries) and modes; not of times, nor of the
    order. `folder`: where in the tree the service is."""
    sha = hashlib.blake2b(digest_size=16)
    for entry, content in sorted(entries, key=lambda pair: os.fsencode(pair[0].path)):
        # No path holds a NUL.
        sha.update(os.fsencode(f"{entry.path}\0{entry.mode}\0{entry.target}\0{content}\0"))
    sha.update(os.fsencode(folder))
    return sha.hexdigest()


class Memory:
    """The hashes of one folder's files, kept in `file` between deploys. A memory that cannot be read is an empty one;
    one that cannot be written costs time, nothing else."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.last = ""
        """Digest of the snapshot that was taken last."""
        self._known: dict[str, list[object]] = {}
        self._next: dict[str, list[object]] = {}
        self._changed = False
        try:
            content = json.loads(file.read_bytes())
            if content["version"] == _VERSION:
                self._known, self.last = content["files"], content["last"]
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def hash(self, entry: Entry) -> str:
        """Of a file's content; empty for what is no file. Raises OSError."""
        if entry.is_folder or entry.is_link:
            return ""
        stamp = [entry.size, *entry.stamp]
        known = self._known.get(entry.source)
        if known is not None and known[:-1] == stamp:
            self._next[entry.source] = known
            return str(known[-1])
        before = time.time_ns()
        with open(entry.source, "rb", buffering=0) as file:  # noqa: PTH123 - 5,000 of them
            found = hash_of(iter(lambda: file.read(_BLOCK), b""))
            info = os.fstat(file.fileno())
        self._changed = True
        same = [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino] == stamp
        if same and max(entry.stamp[:2]) < before - RACY_NS:
            self._next[entry.source] = [*stamp, found]
        return found

    def keep(self, last: str) -> None:
        """Writes down what was hashed since it was read; what was not asked for is forgotten."""
        if not self._changed and last == self.last and len(self._next) == len(self._known):
            return
        temporary = self._file.with_suffix(".tmp")
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_text(json.dumps({"version": _VERSION, "last": last, "files": self._next}))
            temporary.replace(self._file)
        except OSError:
            pass
