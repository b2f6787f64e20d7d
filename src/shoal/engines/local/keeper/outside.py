"""Waits for a way out, then becomes a command: `python -I -S outside.py -- ARGV...`, in a network of its own.

Programs that fetch something first thing would else start before there is a way. One that does not come in time is not
waited for: the program may not need it.
"""

from __future__ import annotations

import importlib
import os
import sys
import time

WAIT_S_MAX = 3.0
_LOOK_S = 0.005


def main(argv: list[str]) -> int:
    child = importlib.import_module("keeper.child")
    deadline = time.monotonic() + WAIT_S_MAX
    while not _is_there() and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    try:
        child.become(argv[argv.index("--") + 1 :], dict(os.environ))
    except child.ExecError as error:
        sys.stderr.write(f"shoal: {error}\n")
        return 127 if error.missing else 126
    raise AssertionError("become does not return")


def _is_there() -> bool:
    """Whether this network has a default route."""
    with open("/proc/net/route", encoding="ascii") as file:
        return any(line.split()[1:2] == ["00000000"] for line in file)


if __name__ == "__main__":
    sys.path[0:1] = []
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.exit(main(sys.argv))
