"""What a shell completes: the names of services, from the nearest app file or the one that -f names.

A shell asks at each press of a key, so nothing of the control plane is loaded here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

BYTES_MAX = 1 << 20


class ServiceName(click.types.StringParamType):
    """Any text; completed with the services of the app file."""

    name = "service"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in service_names(ctx.params.get("file")) if name.startswith(incomplete)]


def service_names(file: Any) -> list[str]:
    """Of the app file that is meant; none where it cannot be read: a completion never fails."""
    import yaml

    from shoal.errors import ShoalError
    from shoal.spec.find import app_file, nearest_app_file

    try:
        path = nearest_app_file(Path.cwd()) if file is None else app_file(Path(file))
        if path.stat().st_size > BYTES_MAX:
            return []
        plain = yaml.load(path.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (ShoalError, OSError, ValueError, yaml.YAMLError, RecursionError):
        return []
    services = plain.get("services") if isinstance(plain, dict) else None
    return [name for name in services if isinstance(name, str)] if isinstance(services, dict) else []
