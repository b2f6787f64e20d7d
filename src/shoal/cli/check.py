"""`shoal check`."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from shoal.cli.options import file_option, shoal_command
from shoal.cli.output import count, emit, say


@shoal_command(
    "check",
    ("shoal check", "the nearest shoal.yaml"),
    ("shoal check -f deploy/shoal.yaml --json", "its problems with line and column, as JSON"),
)
@file_option()
def command(file: Path | None, as_json: bool) -> None:
    """Check the app file, and print every problem with its line and column. Nothing is imported or started.

    Exit status 2 when there is a problem.
    """
    from shoal.spec.find import nearest_app_file
    from shoal.spec.load import load_app

    path = nearest_app_file(Path.cwd()) if file is None else file
    app = load_app(path, os.environ, platform.node())
    services = [service.name for service in app.services]
    if as_json:
        emit({"ok": True, "app": app.name, "folder": app.folder, "services": services})
    else:
        say(f"{app.name} is fine: {count(len(services), 'service')} ({', '.join(services)})")
