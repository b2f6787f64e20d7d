"""`${NAME:-x}` of a compose file -> the same reference in an app file, or the value itself where it must be known now.

The variables of whoever runs the import are never read: they may be secrets, and the file is for others too. What
`.env` says becomes the default of the reference, unless it looks like a secret: that stays where it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-?+]")
_SECRET = re.compile(r"pass(?:word|wd|phrase)?(?:$|_)|secret|token|credential|private|api_?key|(?:^|_)key$|(?:^|_)dsn$")
_CREDENTIALS = re.compile(r"://[^/\s@]*:[^/\s@]+@")
_UNWRITABLE = re.compile(r"\$(?:PORT(?![A-Za-z0-9_])|\{(?:port|PORT|[^.\s:}]+\.[^.\s:}]*)\})")
_DEPTH_MAX = 10
LENGTH_MAX = 20_000
"""A longer text is no value with references in it: it is not looked at, and not carried over."""


def is_secret(name: str, value: str = "") -> bool:
    """By the name, or because it is an address with a password in it."""
    return bool(_SECRET.search(name.lower()) or _CREDENTIALS.search(value[:LENGTH_MAX]))


def literal(text: str) -> str:
    """So that the app file gives this very text. (`$PORT` cannot be written, and becomes the port.)"""
    if len(text) > LENGTH_MAX:
        return text
    return re.sub(r"\$", lambda m: "$" if _UNWRITABLE.match(text, m.start()) else "$$", text)


@dataclass(slots=True)
class Variables:
    """What `.env` says, and what was asked for that it does not."""

    known: Mapping[str, str]
    required: dict[str, str] = field(default_factory=dict)
    """Name -> why: the app file is refused without them."""
    empty: dict[str, str] = field(default_factory=dict)

    def now(self, text: str) -> str:
        """With everything filled in; what nobody set is empty, as in compose."""
        return self._replaced(text, later=False, depth=0)

    def later(self, text: str) -> str:
        """As the app file has it: `shoal up` fills in the rest."""
        return self._replaced(text, later=True, depth=0)

    def own(self, name: str, value: str, file: str) -> str:
        """A variable of an env file: its value, or a reference where it is a secret."""
        if not is_secret(name, value) or not value:
            return literal(value)
        return self._require(name, f"{file} has it")

    def passed_on(self, name: str) -> str:
        """`environment: [NAME]`, without a value."""
        return self.later(f"${{{name}}}") if _NAME.fullmatch(name) else ""

    def _replaced(self, text: str, *, later: bool, depth: int) -> str:
        keep = literal if later else str
        if len(text) > LENGTH_MAX:
            return text
        out: list[str] = []
        position = 0
        while (dollar := text.find("$", position)) >= 0:
            out.append(keep(text[position:dollar]))
            after = text[dollar + 1 : dollar + 2]
            if after == "$":
                # Together with what follows, so that `$$PORT` is known as one.
                word = _NAME.match(text, dollar + 2)
                position = word.end() if word else dollar + 2
                out.append(keep("$" + text[dollar + 2 : position]))
                continue
            braced = after == "{"
            name = _NAME.match(text, dollar + 1 + braced)
            end = (_brace(text, dollar + 2) if braced else name.end() - 1 if name else -1) if name else -1
            if name is None or end < 0 or depth > _DEPTH_MAX:
                out.append(keep("$"))
                position = dollar + 1
                continue
            rest = text[name.end() : end] if braced else ""
            operator = _OPERATOR.match(rest)
            if rest and operator is None:
                out.append(keep("$"))
                position = dollar + 1
                continue
            what = operator.group() if operator else ""
            argument = self._replaced(rest[len(what) :], later=False, depth=depth + 1)
            out.append(self._value(name.group(), what, argument, later=later))
            position = end + 1
        out.append(keep(text[position:]))
        return "".join(out)

    def _value(self, name: str, operator: str, argument: str, *, later: bool) -> str:
        value = self.known.get(name)
        if value == "" and operator.startswith(":"):
            value = None
        if operator.endswith("+"):
            chosen = argument if value is not None else ""
            return literal(chosen) if later else chosen
        if not later or name in ("PORT", "port"):
            chosen = value if value is not None else argument if operator.endswith("-") else ""
            return literal(chosen) if later else chosen
        if value is not None:
            return self._require(name, ".env has it") if is_secret(name, value) else _reference(name, value)
        if operator.endswith("-"):
            return _reference(name, argument)
        if operator.endswith("?"):
            return self._require(name, argument or "the compose file requires it")
        self.empty[name] = "not set in .env"
        return f"${{{name}:-}}"

    def _require(self, name: str, why: str) -> str:
        if not _NAME.fullmatch(name) or name in ("PORT", "port"):
            return ""
        self.required.setdefault(name, why)
        return f"${{{name}}}"


def _reference(name: str, default: str) -> str:
    """A default with a brace cannot be written inside a reference, so it is written alone."""
    return f"${{{name}:-{default}}}" if not re.search(r"[{}]", default) else literal(default)


def _brace(text: str, position: int) -> int:
    """Where the `}` is that closes a `${` before `position`; -1: nowhere."""
    depth = 1
    while position < len(text):
        if text.startswith("${", position):
            depth += 1
            position += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return -1
