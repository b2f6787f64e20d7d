"""Why a replica ended: its exit code, its last lines, and what Shoal can tell beside them."""

from __future__ import annotations

import re
from pathlib import Path

from shoal.engines.local import ownership
from shoal.engines.local.tags import ReplicaTag
from shoal.engines.local.tails import tail
from shoal.model.replica import Exit, TcpAddress

RUNNER_CODES = frozenset({70, 71, 72, 73})
"""`shoal.runner.failures`: the runner ended with one line that says why."""
_RUNNER_LINE = re.compile(r"shoal: service '[^']*' (?P<why>.+)")


def explain(tag: ReplicaTag, exit_code: int | None, log: Path, at: float) -> Exit:
    """Reads the log and, where a command says that all went well, /proc."""
    lines = tail(log, since=tag.asked_at)
    return Exit(at=at, code=exit_code, error=_error(tag, exit_code, lines), tail=lines)


def _error(tag: ReplicaTag, exit_code: int | None, lines: tuple[str, ...]) -> str:
    """Empty: the code says it all."""
    if exit_code in RUNNER_CODES and lines and (found := _RUNNER_LINE.match(lines[-1])):
        return found["why"]
    if exit_code == 0 and isinstance(tag.address, TcpAddress):
        owner = ownership.owner_of(tag.address.port)
        if owner is not None:
            return (
                f"ended with exit code 0, but {owner} listens on its port {tag.address.port}: "
                "it went to the background; run it in the foreground"
            )
    return ""
