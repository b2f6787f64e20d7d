"""Files of variables, as `env_file:` names them: one `NAME=value` a line, the way Docker Compose reads them.

| written | means |
|---|---|
| `NAME=value`, `export NAME=value` | up to the line's end or ` #`, without the spaces around it |
| `NAME="value"` | may go over lines; `\\n`, `\\t`, `\\"`, `\\\\` and `\\$` are what they are in C |
| `NAME='value'` | may go over lines, and is taken as it is; `\\'` is a quote |
| `NAME` | passed on from the environment of `shoal up`, where it is set |
| `# ...` | a comment |

`${NAME}`, `${NAME:-default}` and `$NAME` are filled in, but between single quotes: from the environment of `shoal up`,
else from what stands before in the file. `$$` is a `$`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_ENTRY = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*(=?)[ \t]*")
_SINGLE = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PLAIN = re.compile(r"[^\n]*")
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_TOKEN = re.compile(r"\\(.)|\$\$|\$\{([A-Za-z_]\w*)(?:(:?-)([^}]*))?\}|\$\{|\$([A-Za-z_]\w*)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a file of variables, and where. Never tells a value: it may be a password."""

    line: int
    column: int
    """Both counted from 1."""
    message: str
    way_out: str = ""


def parse(text: str, environ: Mapping[str, str]) -> tuple[dict[str, str], list[Fault]]:
    """The variables, in the file's order, the last of a name; and all that is wrong. `environ`: of `shoal up`."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    found: dict[str, str] = {}
    faults: list[Fault] = []
    at = 0
    while at < len(text):
        if blank := _REST.match(text, at):
            at = blank.end()
            continue
        entry = _ENTRY.match(text, at)
        if entry is None or (not entry[2] and not _REST.match(text, entry.end())):
            faults.append(_fault(text, at, "this is no NAME=value", "a comment starts with #"))
            at = _line_end(text, at)
            continue
        at = entry.end()
        if not entry[2]:
            if entry[1] in environ:
                found[entry[1]] = environ[entry[1]]
            continue
        start, quote = at, text[at : at + 1]
        match = {"'": _SINGLE, '"': _DOUBLE}.get(quote, _PLAIN).match(text, at)
        if match is None:
            faults.append(_fault(text, at, f"the value of {entry[1]} has no closing {quote}", "add it"))
            break
        at = match.end()
        if quote in ("'", '"') and quote:
            if not _REST.match(text, at):
                faults.append(_fault(text, at, f"after the value of {entry[1]} there is more than a comment"))
                at = _line_end(text, at)
                continue
            value = match[1]
        else:
            value = re.split(r"(?:^|[ \t])#", match[0], maxsplit=1)[0].strip()
        if quote == "'":
            found[entry[1]] = value.replace("\\'", "'")
            continue
        found[entry[1]], flaws = _filled(value, {**found, **environ}, escapes=quote == '"')
        faults += [_fault(text, start, f"{entry[1]}: {flaw}", way_out) for flaw, way_out in flaws]
    return found, faults


def _filled(value: str, known: Mapping[str, str], *, escapes: bool) -> tuple[str, list[tuple[str, str]]]:
    flaws: list[tuple[str, str]] = []

    def replace(match: re.Match[str]) -> str:
        token = match[0]
        if match[1] is not None:
            return _ESCAPES.get(match[1], token) if escapes else token
        if token == "$$":
            return "$"
        if token == "${":
            flaws.append(("'${' is no reference", "write ${NAME} or ${NAME:-default}, or $$ for a $"))
            return token
        name = match[2] or match[5]
        current = known.get(name)
        if match[3] is not None and (current is None or (match[3] == ":-" and not current)):
            return match[4]
        if current is None:
            flaws.append((f"the variable {name} is not set", "set it, or put the value in single quotes"))
            return token
        return current

    return _TOKEN.sub(replace, value), flaws


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _fault(text: str, at: int, message: str, way_out: str = "") -> Fault:
    return Fault(text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at), message, way_out)
