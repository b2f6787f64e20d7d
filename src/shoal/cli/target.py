"""The app that `up`, `plan` and `dev` mean: of a file, or a single application named on the command line."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from shoal.errors import UsageError
from shoal.spec.find import app_file, nearest_app_file

if TYPE_CHECKING:
    from shoal.model.app import App


def app_of(target: str | None, port: int | None, file: Path | None, *, verb: str = "up") -> App:
    """Raises SpecError and UsageError. `verb`: the command, for its ways out."""
    from shoal.spec.load import app_from_target, load_app

    if target is None:
        if port is not None:
            raise UsageError("--port is for a single application", way_out=f"shoal {verb} hello:app --port 8080")
        path = nearest_app_file(Path.cwd()) if file is None else file
        return load_app(path, os.environ, platform.node())
    if file is not None:
        raise UsageError("an app file and a single application exclude each other", way_out="remove one of them")
    if ":" not in target and Path(target).exists():
        raise UsageError(
            f"'{target}' is a path", way_out=f"name an app file or its folder with -f: shoal {verb} -f {target}"
        )
    return app_from_target(target, Path.cwd(), port, hostname=platform.node())


def folder_of(target: str | None, file: Path | None) -> Path:
    """Where the state of that app is, without reading anything. Raises UsageError when there is no file."""
    if target is not None:
        return Path.cwd()
    return (nearest_app_file(Path.cwd()) if file is None else app_file(file)).parent.resolve()
