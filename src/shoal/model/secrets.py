"""Values that are named in the app file, and never written there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shoal.model.app import App, Service

NAME = r"[A-Z][A-Z0-9_]{0,63}"
_REFERENCE = re.compile(rf"\$\{{secret\.({NAME})\}}")


def is_name(text: str) -> bool:
    return re.fullmatch(NAME, text) is not None


def reference(name: str) -> str:
    return f"${{secret.{name}}}"


def named_in(text: str) -> list[str]:
    return _REFERENCE.findall(text)


def fill(text: str, values: Mapping[str, str]) -> str:
    """KeyError: one has no value."""
    return _REFERENCE.sub(lambda match: values[match[1]], text)


def used_by(service: Service) -> set[str]:
    """What one of its processes needs."""
    return {name for text in _texts(service) for name in named_in(text)} | {name for name, _ in service.secret_files}


def users(app: App, name: str) -> list[str]:
    """The services that use a secret."""
    return [service.name for service in app.services if name in used_by(service)]


def _texts(service: Service) -> Iterator[str]:
    yield from (value for _, value in service.env)
    yield from (file.content for file in service.files if not file.encoded)
    uses = [*service.uses, *([service.database.use] if service.database and service.database.use else [])]
    yield from (use.url for use in uses)
