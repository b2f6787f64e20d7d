"""The only way in which an import reads files: small plain ones, below the folder of what is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from shoal.errors import UsageError

MAX_BYTES = 1_000_000

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*[=:]\s*(.*)\Z", re.DOTALL)
_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::?-([^}]*))?\}|([A-Za-z_]\w*))", re.ASCII)


class Folder:
    """A folder, and the files and folders in it. What a link leads to outside of it is not there."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def find(self, path: str | Path) -> Path | None:
        """The real path of something that is here; None: it is not, or it is elsewhere."""
        try:
            found = (self.root / path).resolve()
            return found if found.is_relative_to(self.root) and found.exists() else None
        except (OSError, ValueError, RuntimeError):
            return None

    def relative(self, path: str | Path) -> str | None:
        """As seen from here, with no `..`; None: it would be outside, or cannot be a path."""
        try:
            found = (self.root / path).resolve()
        except (OSError, ValueError, RuntimeError):
            return None
        return found.relative_to(self.root).as_posix() if found.is_relative_to(self.root) else None

    def is_folder(self, path: str | Path) -> bool:
        found = self.find(path)
        return found is not None and found.is_dir()

    def is_file(self, path: str | Path) -> bool:
        found = self.find(path)
        return found is not None and found.is_file()

    def text(self, path: str | Path) -> str | None:
        """A file's text; None: there is none here, it is no text, or it is larger than 1 MB."""
        found = self.find(path)
        return None if found is None else read_text(found)


def read_text(path: Path) -> str | None:
    try:
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        return data.decode("utf-8-sig") if len(data) <= MAX_BYTES else None
    except (OSError, ValueError):
        return None


def read_bytes(path: Path) -> bytes:
    """The file that is to be imported. Raises UsageError."""
    try:
        if not path.is_file():
            what = "is no plain file" if path.exists() else "does not exist"
            raise UsageError(f"{path} {what}", way_out="name a compose file or a Procfile")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path} is larger than 1 MB", way_out="a compose file or a Procfile is a short text")
    return data


def parse_env(text: str, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """The assignments of an env file, as compose reads them: quotes, `export`, comments, `${EARLIER}`."""
    found: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        match = _ASSIGNMENT.match(line)
        if line.lstrip().startswith("#") or match is None:
            continue
        name, rest = match[1], match[2]
        quote = rest[:1]
        if quote in ("'", '"'):
            while (end := _closing(rest, quote)) is None:
                more = next(lines, None)
                if more is None:
                    break
                rest += "\n" + more
            value = rest[1 : end if end is not None else len(rest)]
            if quote == '"':
                value = re.sub(r"\\([\\\"nrt$])", lambda m: {"n": "\n", "r": "\r", "t": "\t"}.get(m[1], m[1]), value)
        else:
            value = re.split(r"(?:\s|^)#", rest, maxsplit=1)[0].strip()
        if quote != "'":
            seen = {**(known or {}), **found}
            value = _REFERENCE.sub(lambda m, seen=seen: seen.get(m[1] or m[3]) or m[2] or "", value)
        found[name] = value
    return found


def _closing(text: str, quote: str) -> int | None:
    """Where the quote that `text` starts with ends."""
    position = 1
    while position < len(text):
        if text[position] == "\\" and quote == '"':
            position += 1
        elif text[position] == quote:
            return position
        position += 1
    return None
