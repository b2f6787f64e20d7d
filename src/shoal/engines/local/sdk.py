"""Where services find `shoal.sdk`, whatever is in their environments.

    <state>/envs/sdk/shoal/sdk    a link to the SDK of this Shoal

A folder for `PYTHONPATH`. Its `shoal` has no `__init__.py`: a whole Shoal in a service's environment, or a package of
the user's that is called so, goes before it, for Python takes a namespace only where there is no package.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from shoal.errors import EngineError
from shoal.paths import StateFolder

SDK = Path(__file__).parents[2] / "sdk"


def folder(state: StateFolder) -> Path:
    """Made, or led to this Shoal's SDK after an upgrade. Blocks. EngineError."""
    root = state.environments / "sdk"
    link = root / "shoal" / "sdk"
    try:
        if link.is_symlink() and link.readlink() == SDK:
            return root
        link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = link.with_name(f".sdk-{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        new.symlink_to(SDK)
        new.replace(link)
    except OSError as error:
        raise EngineError(f"{link} cannot be written: {error.strerror}") from error
    return root
