"""What is wrong with an app file: every problem at once, each with its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar

from shoal.errors import UsageError

TAB_WIDTH = 4
EXCERPT_WIDTH = 100
"""Characters of a source line that are shown around a problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, where, and what to do about it."""

    file: str
    """As the user named it, or its name in the current folder."""
    line: int
    column: int
    """Both counted from 1, in characters; the column after the last character stands for the line's end."""
    path: str
    """`services.web.port`; empty: the file as a whole."""
    message: str
    way_out: str = ""
    source: str = ""
    """The line as it is in the file."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: "
        what = f"{self.path}: {self.message}" if self.path else self.message
        return where + (f"{what}; {self.way_out}" if self.way_out else what)

    def excerpt(self) -> tuple[str, ...]:
        """The source line and a caret below the column; nothing for an empty line. Long lines are cut around it."""
        text, column = self.source, self.column - 1
        if not text.strip():
            return ()
        start = max(0, column - EXCERPT_WIDTH // 2)
        before = printable(text[start:column])
        shown = before + printable(text[column : start + EXCERPT_WIDTH])
        prefix = f"{self.line} | "
        return (prefix + shown, " " * (len(prefix) + len(before)) + "^")


class SpecError(UsageError):
    """An app file with problems; none of it was used."""

    code: ClassVar[str] = "app-file"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.line, p.column, p.path, p.message)))
        """By line and column; at least one."""
        assert self.problems
        count = len(self.problems)
        file = self.problems[0].file
        super().__init__(
            f"{file} has a problem" if count == 1 else f"{file} has {count} problems",
            way_out="mend it and try again; nothing was started",
            detail="\n".join(_paragraph(problem) for problem in self.problems),
        )


def did_you_mean(wrong: str, known: Sequence[str], *, otherwise: str = "") -> str:
    """`did you mean 'port'?`, or `otherwise` when nothing is near."""
    near = get_close_matches(wrong[:100], known, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else otherwise


def quoted(text: str, *, limit: int = 60) -> str:
    """Foreign text within a message: one line, no control characters, cut when long."""
    return f"'{printable(text if len(text) <= limit else text[: limit - 1] + '…')}'"


def printable(text: str) -> str:
    """Foreign text as one line without control characters: a tab is four spaces, others a replacement character."""
    return "".join(
        c if c.isprintable() else " " * TAB_WIDTH if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _paragraph(problem: Problem) -> str:
    return "\n".join((str(problem), *(f"    {line}" for line in problem.excerpt())))
