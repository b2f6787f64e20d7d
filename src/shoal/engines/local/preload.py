"""Help for commands that hard-code the port they listen on: node and Python programs are moved to `$PORT`. Pure.

What it cannot move (a compiled server, Python with -I, Deno) says `${port}` in its command, or `listen:`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import shoal

FOLDER = Path(shoal.__file__).parent / "runner" / "preload"
MOVES = "SHOAL_MOVE_PORTS"


def variables(env: Mapping[str, str], moves: Mapping[int, int]) -> dict[str, str]:
    """What to add to a command's `env` so that a server on a declared port (key) listens on its own (value).

    `NODE_OPTIONS` and `PYTHONPATH` that are there already are kept, behind ours. Empty: nothing to move.
    """
    moved = {declared: own for declared, own in moves.items() if declared != own}
    if not moved:
        return {}
    script = str(FOLDER / "move_ports.cjs").replace("\\", "\\\\").replace('"', '\\"')
    node = f'--require "{script}" {env.get("NODE_OPTIONS", "")}'.rstrip()
    python = os.pathsep.join(part for part in (str(FOLDER), env.get("PYTHONPATH", "")) if part)
    return {
        MOVES: ",".join(f"{declared}:{own}" for declared, own in moved.items()),
        "NODE_OPTIONS": node,
        "PYTHONPATH": python,
    }
