"""Drafts of services -> the text of an app file, in one order, with a comment where something was decided."""

from __future__ import annotations

import os
import re
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shoal.errors import ConflictError, UsageError

WIDTH = 100
ORDER = (
    "run", "command", "image", "external", "static", "build", "cwd", "python", "node", "port", "ports", "protocol",
    "publish", "listen", "network", "replicas", "restart", "env_file", "env", "files", "volumes", "health", "calls",
    "after",
)  # fmt: skip

_PLAIN = re.compile(
    r"[A-Za-z_/][A-Za-z0-9_./@%+=:$~^*()!?;<>&|'\" \\-]*\Z|\.{1,2}/[A-Za-z0-9_./$= -]*\Z|\d+(?:\.\d+){3}(?::\d+)?\Z"
)
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


@dataclass(slots=True)
class Draft:
    """A service as it will be written."""

    name: str
    keys: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, list[str]] = field(default_factory=dict)
    """By key, `env.NAME` for a variable, and empty for the service itself."""

    def comment(self, key: str, text: str) -> None:
        self.comments.setdefault(key, []).append(text)


def render(
    head: Sequence[str],
    app: str,
    services: Sequence[Draft],
    more: dict[str, Any] | None = None,
    comments: dict[str, str] | None = None,
    tail: Sequence[str] = (),
) -> str:
    """The whole text. `more`: other keys of the file, with a comment each."""
    lines = [line for text in head for line in _comment(text, 0)]
    lines += [f"app: {scalar(app)}", "services:"]
    for i, draft in enumerate(services):
        lines += [""] if i else []
        for text in draft.comments.get("", []):
            lines += _comment(text, 2)
        lines.append(f"  {scalar(draft.name)}:")
        for key in sorted(draft.keys, key=lambda k: (ORDER.index(k) if k in ORDER else len(ORDER), k)):
            for text in draft.comments.get(key, []):
                lines += _comment(text, 4)
            lines += _entry(key, draft.keys[key], 4, draft.comments)
    for key, value in (more or {}).items():
        lines += ["", *_comment((comments or {}).get(key, ""), 0), *_entry(key, value, 0, {})]
    if tail:
        lines += ["", *(line for text in tail for line in _comment(text, 0))]
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any, indent: int, comments: dict[str, list[str]]) -> list[str]:
    pad = " " * indent
    if isinstance(value, dict) and value:
        lines = [f"{pad}{scalar(key)}:"]
        for name, item in value.items():
            for text in comments.get(f"{key}.{name}", []):
                lines += _comment(text, indent + 2)
            lines += _entry(name, item, indent + 2, {}) if key != "env" else [
                f"{pad}  {scalar(name)}: {scalar(item, numbers=True)}"
            ]  # fmt: skip
        return lines
    if isinstance(value, list):
        items = [scalar(item, flow=True) if not isinstance(item, int) else str(item) for item in value]
        flow = f"{pad}{scalar(key)}: [{', '.join(items)}]"
        if len(flow) <= WIDTH:
            return [flow]
        return [f"{pad}{scalar(key)}:", *(f"{pad}  - {item}" for item in items)]
    if isinstance(value, dict):
        return [f"{pad}{scalar(key)}: {{}}"]
    if isinstance(value, str) and key == "command" and (block := _block(value, indent + 2)):
        return [f"{pad}{scalar(key)}: {block[0]}", *block[1:]]
    return [f"{pad}{scalar(key)}: {scalar(value)}"]


def scalar(value: Any, *, flow: bool = False, numbers: bool = False) -> str:
    """A text so that YAML reads the same text; numbers and flags as they are. `numbers`: whole numbers need no quotes,
    because what reads them takes them as they are written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if numbers and re.fullmatch(r"[0-9]{1,9}", text):
        return text
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    plain = (
        _PLAIN.match(text)
        and text.lower() not in _WORDS
        and ": " not in text
        and not text.endswith((":", " "))
        and not (flow and re.search(r"[?'\":]|\$\{", text))
    )
    if plain:
        return text
    return '"' + "".join(_escaped(c) for c in text) + '"'


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _block(text: str, indent: int) -> list[str] | None:
    """A text of several lines, as it is; None: it has something that such a block would not keep."""
    lines = text.split("\n")
    if len(lines) < 2 or any(line != line.rstrip() or not line.isprintable() for line in lines):
        return None
    if not lines[0] or lines[0][0] == " " or not lines[-1]:
        return None
    return ["|-", *(" " * indent + line if line else "" for line in lines)]


def _comment(text: str, indent: int) -> list[str]:
    pad = " " * indent
    words = "".join(c if c.isprintable() else " " for c in text)
    return textwrap.wrap(
        words, WIDTH, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def write(path: Path, text: str, *, force: bool) -> None:
    """Whole or not at all. Raises ConflictError when there is a file already, UsageError when it cannot be written."""
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder", way_out="name the file to write: -o shoal.yaml")
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
        if force:
            temporary.replace(path)
        else:
            # A link fails where there is a file, also one that came a moment ago.
            path.hardlink_to(temporary)
    except FileExistsError:
        raise ConflictError(
            f"{path} is there already, and was left as it is",
            way_out="name another with -o, or replace it with --force",
        ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
