"""Small files of our own: whole or not there at all, whoever is killed. Standard library only.

All raise OSError, and then nothing has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write(path: Path, content: str | bytes, *, mode: int = 0o600, sync: bool = False) -> None:
    """Puts it in the place of what was there; its folder, where missing, is made, 0700. Text is UTF-8, with what came
    from the system as it came. `sync`: it outlives a loss of power."""
    temporary = _written(path, content, mode=mode, sync=sync)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def make_once(path: Path, make: Callable[[], str]) -> None:
    """Unless it is there; of several who make it at once, the first has made it for all. Outlives a loss of power."""
    if path.exists():
        return
    temporary = _written(path, make(), mode=0o600, sync=True)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _written(path: Path, content: str | bytes, *, mode: int, sync: bool) -> Path:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(descriptor, mode)
            if sync:
                file.flush()
                os.fsync(descriptor)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
