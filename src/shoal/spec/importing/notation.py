"""The many ways to write one thing in a compose file, each brought to one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_PORT = re.compile(
    r"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9]+(?:\.[0-9]+){3}|localhost):)?(?:(?P<host>[0-9]{0,5}(?:-[0-9]{1,5})?):)?"
    r"(?P<target>[0-9]{1,5}(?:-[0-9]{1,5})?)(?:/(?P<protocol>[a-z]+))?\Z"
)
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\]|[A-Za-z0-9_.-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>/[^\s\"'|;&)#]*)?"
)
RANGE_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """One port of a container, and where the machine had it."""

    target: int
    host: int | None = None
    """None: compose chose one, or it was not published."""
    ip: str = ""
    protocol: str = "tcp"
    written: str = ""
    published: bool = False
    """It is of `ports:`, also where compose was to choose the machine's port."""
    name: str = ""
    declared: bool = True
    """In the compose file, and not only in the Dockerfile's EXPOSE, which opens nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One volume of a service."""

    source: str
    """A path (starts with `.`, `/` or `~`), a volume's name, or nothing: made for this container alone."""
    target: str
    kind: str
    """`bind`, `volume`, `tmpfs` or another of compose's."""
    written: str
    read_only: bool = False


def ports(value: Any) -> tuple[list[PortMapping], list[str]]:
    """What `ports:` says, and what of it is not understood."""
    found: list[PortMapping] = []
    strange: list[str] = []
    for item in value if isinstance(value, list) else []:
        made = list(_long_port(item) if isinstance(item, dict) else _short_port(str(item)))
        found += made
        if not made:
            strange.append(short(item))
    return found, strange


def _short_port(text: str) -> Iterator[PortMapping]:
    match = _PORT.match(text.strip())
    if match is None:
        return
    targets, hosts = _numbers(match["target"]), _numbers(match["host"] or "")
    if not targets or (match["host"] and not hosts):
        return
    for i, target in enumerate(targets):
        host = hosts[i] if len(hosts) == len(targets) else None
        yield PortMapping(
            target=target, host=host, ip=match["ip"] or "", protocol=match["protocol"] or "tcp", written=text,
            published=True,
        )  # fmt: skip


def _long_port(item: dict[str, Any]) -> Iterator[PortMapping]:
    targets, hosts = _numbers(str(item.get("target") or "")), _numbers(str(item.get("published") or ""))
    for i, target in enumerate(targets):
        yield PortMapping(
            target=target,
            host=hosts[i] if len(hosts) == len(targets) else None,
            ip=str(item.get("host_ip") or ""),
            protocol=str(item.get("protocol") or "tcp"),
            published=True,
            name=str(item.get("name") or ""),
            written=":".join(str(item[key]) for key in ("published", "target") if item.get(key)),
        )


def _numbers(text: str) -> list[int]:
    """`3000` or `3000-3005`; empty: it is neither."""
    if not re.fullmatch(r"[0-9]{1,5}(?:-[0-9]{1,5})?", text):
        return []
    first, _, last = text.partition("-")
    low, high = int(first), int(last or first)
    return list(range(low, high + 1)) if 1 <= low <= high <= 65535 and high - low < RANGE_MAX else []


def exposed(value: Any, *, declared: bool = True) -> list[PortMapping]:
    """`expose:` of a service, or EXPOSE of an image (which is not `declared`)."""
    found = []
    for item in value if isinstance(value, list | tuple) else []:
        number, _, protocol = str(item).partition("/")
        found += [PortMapping(target=n, protocol=protocol or "tcp", written=str(item), declared=declared)
                  for n in _numbers(number)]  # fmt: skip
    return found


def mounts(value: Any) -> list[Mount]:
    found = []
    for item in value if isinstance(value, list) else []:
        if isinstance(item, dict):
            source, target = str(item.get("source") or ""), str(item.get("target") or "")
            kind = str(item.get("type") or "volume")
            written = f"{source}:{target}".lstrip(":")
            read_only = is_true(str(item.get("read_only")))
            found.append(Mount(source=source, target=target, kind=kind, written=written, read_only=read_only))
            continue
        parts = str(item).split(":")
        source, target = (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])
        kind = "bind" if source.startswith((".", "/", "~")) else "volume"
        read_only = len(parts) > 2 and "ro" in parts[2].split(",")
        found.append(Mount(source=source, target=target, kind=kind, written=str(item), read_only=read_only))
    return found


def mapping(value: Any) -> dict[str, str | None]:
    """`environment:`, `args:`, `labels:`: a mapping, or a list of `NAME=value`."""
    if isinstance(value, dict):
        return {name: text if isinstance(text, str) else None for name, text in value.items()}
    found: dict[str, str | None] = {}
    for item in value if isinstance(value, list) else []:
        if isinstance(item, str):
            name, assigned, text = item.partition("=")
            found[name] = text if assigned else None
    return found


def texts(value: Any) -> list[str]:
    """A list of texts, or one alone."""
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def is_true(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in ("true", "yes", "on", "1")


def health_url(test: str) -> tuple[int | None, str] | None:
    """Port and path of what a health check asks over HTTP; None: it asks something else."""
    if not re.search(r"curl|wget|https?://", test):
        return None
    match = _URL.search(test)
    if match is None:
        bare = re.search(r"(?:localhost|127\.0\.0\.1|0\.0\.0\.0):([0-9]{2,5})(/[^\s\"'|;&)#]*)?", test)
        if bare is None or int(bare[1]) > 65535 or not re.search(r"curl|wget", test):
            return None
        return int(bare[1]), bare[2] or "/"
    number = int(match["port"]) if match["port"] else 80 if match["scheme"] == "http" else 443
    return (number, match["path"] or "/") if 1 <= number <= 65535 else None


def short(value: Any, limit: int = 60) -> str:
    """Something of the file, in a report: one line, not too long."""
    if isinstance(value, dict):
        text = ", ".join(str(key) for key in value)
    elif isinstance(value, list):
        text = ", ".join(item if isinstance(item, str) else short(item) for item in value)
    else:
        text = "" if value is None else str(value)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def joined(words: Any) -> str:
    """The words of a test or a command, to be looked at as one text."""
    return shlex.join(words) if isinstance(words, list) and all(isinstance(w, str) for w in words) else str(words)
