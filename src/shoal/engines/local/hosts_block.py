"""The text of a hosts file that several apps write their names into. Pure.

    127.0.0.1 localhost                                     the machine's own lines, which stay as they are
    # BEGIN shoal 5d1f0c9a77e2 shop /srv/shop/.shoal        one block for each app, at the end
    127.77.0.9  web
    # END shoal 5d1f0c9a77e2

The number is a hash of what is in the block: one that was half written, or that somebody has changed, has another and
is dropped. Whose it was writes it again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

_JOINED = " (the line before had no end)"
_BEGIN = re.compile(rf"# BEGIN shoal (?P<hash>[0-9a-f]+) (?P<app>\S+) (?P<state>\S+)(?P<joined>{re.escape(_JOINED)})?")
_ENTRY = re.compile(r"(?P<address>127(?:\.\d{1,3}){3})\t(?P<name>[a-z0-9-]+)")
_END = re.compile(r"# END shoal (?P<hash>[0-9a-f]+)")
_FILLER = "# shoal"
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
"""Not `splitlines`: a form feed ends no line in these files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    app: str
    state: str
    """The app's state folder, absolute."""
    entries: tuple[tuple[str, str], ...]
    """(name, address)."""

    @property
    def hash(self) -> str:
        text = "\n".join([self.app, self.state, *(f"{address} {name}" for name, address in self.entries)])
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()

    def text(self, *, joined: bool) -> str:
        """`joined`: the line end before it is not the machine's, and leaves with it."""
        state = quote(self.state.encode("utf-8", "surrogateescape"))
        lines = [f"# BEGIN shoal {self.hash} {self.app} {state}{_JOINED if joined else ''}"]
        lines += [f"{address}\t{name}" for name, address in self.entries]
        return "".join(f"{line}\n" for line in [*lines, f"# END shoal {self.hash}"])


def parse(text: str) -> tuple[str, tuple[Block, ...]]:
    """What is not ours, as it was before the first block came; and the blocks that are whole."""
    lines: list[str] = _LINES.findall(text)
    kept: list[str] = []
    blocks: list[Block] = []
    joined_at: int | None = None
    if lines and lines[-1].startswith(f"{_FILLER}~"):
        del lines[-1]  # where no block is before it
    while lines:
        line = lines.pop(0)
        begin = _BEGIN.fullmatch(line.rstrip())
        if begin is None:
            if not _is_torn(line):
                kept.append(line)
            continue
        if begin["joined"]:
            joined_at = len(kept)
        entries: list[tuple[str, str]] = []
        while lines and (entry := _ENTRY.fullmatch(lines[0].rstrip("\n"))):
            entries.append((entry["name"], entry["address"]))
            del lines[0]
        end = _END.fullmatch(lines[0].rstrip()) if lines else None
        if end is not None or (lines and not lines[0].endswith("\n") and _could_be_ours(lines[0])):
            del lines[0]
        if len(lines) == 1 and _is_filler(lines[0]):
            del lines[0]
        state = unquote(begin["state"], "utf-8", "surrogateescape")
        block = Block(app=begin["app"], state=state, entries=tuple(entries))
        if end is not None and end["hash"] == begin["hash"] == block.hash:
            blocks.append(block)
    if joined_at is not None and joined_at == len(kept) and kept:
        kept[-1] = kept[-1].removesuffix("\n")
    return "".join(kept), tuple(blocks)


def compose(others: str, blocks: Sequence[Block], *, size: int = 0) -> str:
    """The whole file, of at least `size` bytes: what is shorter than the file before is filled up with what means
    nothing, so that one write replaces it all and nothing of the old text is left behind the new one."""
    joined = bool(blocks) and bool(others) and not others.endswith("\n")
    texts = [block.text(joined=joined and index == 0) for index, block in enumerate(blocks)]
    text = others + ("\n" if joined else "") + "".join(texts)
    missing = size - len(text.encode("utf-8", "surrogateescape"))
    return text + _filler(missing, joined=bool(text) and not text.endswith("\n")) if missing > 0 else text


def _filler(size: int, *, joined: bool) -> str:
    """The last line, of `size` bytes; `joined`: what comes before it has no end."""
    gap = "\n" if joined else ""
    return (gap + _FILLER).ljust(size - 1, "~")[: size - 1] + "\n"


def _is_filler(line: str) -> bool:
    text = line.removesuffix("\n")
    return _FILLER.startswith(text) or (text.startswith(_FILLER) and not text.removeprefix(_FILLER).strip("~"))


def names_in(text: str) -> set[str]:
    """Every name that a hosts file resolves, in lower case."""
    found: set[str] = set()
    for line in text.split("\n"):
        found.update(word.lower() for word in line.partition("#")[0].split()[1:])
    return found


def owners(blocks: Iterable[Block]) -> dict[str, Block]:
    """Name -> the block that the C library finds it in: the first."""
    found: dict[str, Block] = {}
    for block in blocks:
        for name, _ in block.entries:
            found.setdefault(name, block)
    return found


def _is_torn(line: str) -> bool:
    """The begin of a block, cut off in its first line."""
    return not line.endswith("\n") and len(line) > 2 and _starts_like(line, "# BEGIN shoal ")


def _could_be_ours(line: str) -> bool:
    """The last line of a block that was cut off in it."""
    return line.startswith("127.") or _starts_like(line, "# END shoal ") or "127.".startswith(line)


def _starts_like(line: str, start: str) -> bool:
    return line.startswith(start) or start.startswith(line)
