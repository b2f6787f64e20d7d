"""What the end of a log most often means, and what to do about it. A table; the first match wins."""

from __future__ import annotations

import re
from collections.abc import Callable

from shoal.model.status import ExitStatus, ServiceStatus

_Hint = Callable[[re.Match[str], ServiceStatus], str]

_HINTS: tuple[tuple[str, _Hint], ...] = (
    (
        r"ModuleNotFoundError: No module named '([\w.]+)'",
        lambda m, s: f"add '{m[1]}' to the requirements of {s.name}, or correct 'run' or 'cwd'",
    ),
    (r"Cannot find module '([^']+)'", lambda m, s: f"install '{m[1]}' (npm ci), or correct 'command' or 'cwd'"),
    (
        r"(?:Address already in use|EADDRINUSE|address already in use)",
        lambda m, s: "listen on $PORT instead of a fixed port: each replica gets a number of its own",
    ),
    (r"KeyError: '([A-Z][A-Z0-9_]+)'", lambda m, s: f"set the variable {m[1]} under services.{s.name}.env"),
    (
        r"(?:Permission denied|EACCES).*(?:bind|listen|port)",
        lambda m, s: "listen on $PORT; ports below 1024 need root",
    ),
)
_CODES = {
    126: "the program cannot be run: make it executable, or name its interpreter in 'command'",
    127: "the program was not found: correct 'command', or the PATH of whoever runs `shoal up`",
    -9: "somebody, or the kernel when memory ran out, killed it: see `dmesg`",
}


def way_out_of(ended: ExitStatus, service: ServiceStatus) -> str:
    """What to do about this end of a process; empty when nothing is known."""
    for line in reversed(ended.tail):
        for pattern, hint in _HINTS:
            if match := re.search(pattern, line):
                return hint(match, service)
    return _CODES.get(ended.code or 0, "")
