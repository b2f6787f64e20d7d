"""`shoal version`."""

from __future__ import annotations

import platform

from shoal import __version__
from shoal.cli.options import shoal_command
from shoal.cli.output import emit, say


@shoal_command("version", ("shoal version", "Shoal's and Python's"))
def command(as_json: bool) -> None:
    """Show the version."""
    if as_json:
        emit({"shoal": __version__, "python": platform.python_version()})
    else:
        say(f"shoal {__version__} (Python {platform.python_version()})")
