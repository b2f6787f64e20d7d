"""Runs a command in a service's surroundings: `python -I -S enter.py HOSTS NSSWITCH|- -- ARGV...` (`shoal exec`).

Becomes the command, so that terminal, signals and exit code are the command's own. 127: no such command, 126: it
cannot be run, 125: no namespace, each with the reason on stderr.
"""

from __future__ import annotations

import importlib
import os
import sys


def main(argv: list[str]) -> int:
    if len(argv) < 5 or argv[3] != "--":
        return _say(125, "usage: enter.py HOSTS NSSWITCH|- -- COMMAND [ARGUMENT...]")
    namespaces = importlib.import_module("keeper.namespaces")
    child = importlib.import_module("keeper.child")
    try:
        namespaces.enter(argv[1], None if argv[2] == "-" else argv[2])
    except namespaces.NamespaceError as error:
        return _say(125, f"the app's names are not to be had here: {error}")
    try:
        child.become(argv[4:], dict(os.environ))
    except child.ExecError as error:
        return _say(127 if error.missing else 126, str(error))
    raise AssertionError("become does not return")


def _say(code: int, words: str) -> int:
    sys.stderr.write(f"shoal: {words}\n")
    return code


if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.exit(main(sys.argv))
