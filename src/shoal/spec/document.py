"""An app file's data, with the place of each part, so that every problem can say where it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from shoal.spec.problems import Problem, printable, quoted

Loc = tuple[str | int, ...]
"""The way to a value: keys and list positions."""

_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""What YAML counts as the end of a line."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the text; line and column counted from 0, index in characters from its start."""

    line: int
    column: int
    index: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is, and where its key is (the value itself, in a list)."""

    key: Mark
    value: Mark
    text: str | None = None
    """A scalar, as written; None for mappings and lists."""


@dataclass(slots=True)
class Document:
    """The data of a file, with the place of each part."""

    file: str
    text: str
    plain: Any = None
    places: dict[Loc, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def at_key(self, loc: Loc, message: str, way_out: str = "") -> Problem:
        return self.at_mark(self._nearest(loc).key, loc, message, way_out)

    def at_value(self, loc: Loc, message: str, way_out: str = "", *, offset: int | None = None) -> Problem:
        """`offset`: characters into a scalar's value, used where the value is in the file letter by letter."""
        place = self._nearest(loc)
        mark = place.value
        if offset is not None and place.text is not None:
            upto = place.text[: offset + 2]
            for quote in (0, 1):
                start = mark.index + quote
                if "\n" not in upto and self.text.startswith(upto, start):
                    mark = Mark(mark.line, mark.column + quote + offset, start + offset)
                    break
        return self.at_mark(mark, loc, message, way_out)

    def written(self, loc: Loc) -> str:
        """A scalar as it is in the file, without quotes: `0777`, `1.10`."""
        return self.places[loc].text or ""

    def _nearest(self, loc: Loc) -> Place:
        while loc and loc not in self.places:
            loc = loc[:-1]
        return self.places.get(loc) or Place(Mark(0, 0, 0), Mark(0, 0, 0))

    def at_mark(self, mark: Mark, loc: Loc, message: str, way_out: str = "") -> Problem:
        """`loc` empty: about the file as a whole."""
        lines = _LINE_END.split(self.text)
        line = min(mark.line, len(lines) - 1)
        source = lines[line]
        return Problem(
            file=printable(self.file),
            line=line + 1,
            column=min(mark.column, len(source)) + 1 if line == mark.line else len(source) + 1,
            path=dotted(loc),
            message=printable(message),
            way_out=printable(way_out),
            source=source,
        )


def dotted(loc: Loc) -> str:
    """`services.web.calls[1]`; a key that is no plain word is quoted."""
    out = ""
    for part in loc:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            word = part if re.fullmatch(r"[\w-]{1,100}", part, re.ASCII) else quoted(part)
            out += f".{word}" if out else word
    return out


def end_of(text: str) -> Mark:
    """The place after the last character."""
    lines = _LINE_END.split(text)
    return Mark(len(lines) - 1, len(lines[-1]), len(text))
