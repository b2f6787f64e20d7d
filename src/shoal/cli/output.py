"""How things are printed: calm aligned text for people, JSON for machines, errors on stderr.

Colour goes to terminals only, and not where `NO_COLOR` is set. Text that is not ours (logs, reasons with a program's
words) loses its control characters: it cannot move the cursor, clear the screen or forge a line.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import IO

from shoal.errors import ShoalError

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1",
            "blue": "34", "magenta": "35", "cyan": "36"}  # fmt: skip


def clean(text: str) -> str:
    """One line of foreign text: terminal sequences go, other control characters are shown as `\\x07`; tabs stay."""
    return _CONTROL.sub(lambda m: ascii(m.group())[1:-1], _ESCAPE.sub("", text))


def paint(text: str, colour: str, stream: IO[str] | None = None) -> str:
    """Colours text for a stream (default: stdout) when people look at it."""
    stream = stream or sys.stdout
    if not colour or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def say(*lines: str) -> None:
    """Prints at once, so that a pipe sees a line when it happens."""
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """To stderr: what is worth knowing, and is no result."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def emit(value: object) -> None:
    """A result as JSON, over several lines."""
    say(json.dumps(plain(value), indent=2))


def emit_line(value: object) -> None:
    """One of many results as JSON, on one line."""
    say(json.dumps(plain(value), separators=(",", ":")))


def plain(value: object) -> object:
    """Dataclasses, alone or in a list, as JSON's types."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def show_error(error: ShoalError) -> None:
    """`shoal: what and whose`, the way out, then the lines worth reading."""
    first, *rest = error.message.splitlines() or [""]
    lines = [paint("shoal: ", "red", sys.stderr) + clean(first), *(f"  {clean(line)}" for line in rest)]
    if error.way_out:
        lines += [f"  -> {clean(error.way_out)}"]
    lines += [f"    {clean(line)}".rstrip() for line in error.detail.splitlines()]
    note("\n".join(lines))


def problem_details(error: ShoalError) -> dict[str, object]:
    """The error as RFC 9457 has it, as the API sends it. An app file's problems come one by one."""
    details: dict[str, object] = {
        "type": f"urn:shoal:error:{error.code}",
        "title": error.code.replace("-", " "),
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "way_out": error.way_out,
        "lines": error.detail.splitlines(),
    }
    problems = getattr(error, "problems", None)
    return details if problems is None else details | {"problems": plain(problems)}


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, colours: dict[str, str] | None = None) -> list[str]:
    """Aligned columns, two spaces apart; the last is as wide as it likes. `colours`: of a cell's first word."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
    lines = ["  ".join(name.ljust(width) for name, width in zip(header, widths, strict=True)).rstrip()]
    lines[0] = paint(lines[0], "dim")
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        chosen = [(colours or {}).get(cell.partition(" ")[0], "") for cell in row]
        painted = [paint(cell, colour) for cell, colour in zip(padded, chosen, strict=True)]
        lines.append("  ".join(painted).rstrip())
    return lines


def age(seconds: float) -> str:
    """`3s`, `4m`, `2h`, `5d`: the largest unit that fits."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def count(number: int, word: str) -> str:
    """`1 replica`, `3 replicas`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
