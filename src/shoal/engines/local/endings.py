"""Why a replica ended: its exit code, its last lines, and what Shoal can tell beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from shoal.engines.local import ownership
from shoal.engines.local.tags import ReplicaTag
from shoal.engines.local.tails import tail
from shoal.model.replica import Exit, TcpAddress

RUNNER_CODES = frozenset({70, 71, 72, 73})
"""`shoal.runner.failures`: the runner ended with one line that says why."""
_RUNNER_LINE = re.compile(r"shoal: service '[^']*' (?P<why>.+)")


FOREGROUND = (
    ("nginx", "nginx -g 'daemon off;'"),
    ("redis-server", "redis-server --daemonize no"),
    ("valkey-server", "valkey-server --daemonize no"),
    ("pg_ctl", "postgres -D <folder> in the place of pg_ctl"),
    ("gunicorn", "leave --daemon (-D) away"),
    ("uwsgi", "leave --daemonize away"),
    ("haproxy", "haproxy -db"),
    ("(?:httpd|apachectl|apache2ctl|apache2)", "add -DFOREGROUND"),
    ("memcached", "leave -d away"),
    ("php-fpm[0-9.]*", "php-fpm -F"),
    ("mongod", "leave --fork away"),
    ("supervisord", "supervisord -n"),
    ("rabbitmq-server", "leave -detached away"),
    ("sshd", "sshd -D -e"),
    ("caddy", "caddy run in the place of caddy start"),
    ("pm2", "pm2-runtime in the place of pm2, or node itself"),
    ("celery", "celery worker in the place of celery multi, without --detach"),
)
"""Programs that put themselves into the background, and how not to."""


def foreground(argv: Sequence[str]) -> str:
    """How the program of a command line stays in the foreground. Empty: that is not known."""
    text = " ".join(argv)
    return next((how for name, how in FOREGROUND if re.search(rf"(?:^|[\s/]){name}(?:\s|$)", text)), "")


def explain(tag: ReplicaTag, exit_code: int | None, log: Path, at: float, *, left_behind: bool = False) -> Exit:
    """Reads the log and, where a command says that all went well, /proc. `left_behind`: something that it had started
    lived on, and was ended."""
    lines = tail(log, since=tag.asked_at)
    return Exit(at=at, code=exit_code, error=_error(tag, exit_code, lines, left_behind), tail=lines)


def _error(tag: ReplicaTag, exit_code: int | None, lines: tuple[str, ...], left_behind: bool) -> str:
    """Empty: the code says it all."""
    if exit_code in RUNNER_CODES and lines and (found := _RUNNER_LINE.match(lines[-1])):
        return found["why"]
    how = f": {tag.foreground}" if tag.foreground else ""
    if exit_code == 0 and left_behind:
        return (
            "ended with exit code 0 and left a process behind, which was ended too: "
            f"it went to the background; run it in the foreground{how}"
        )
    if exit_code == 0 and isinstance(tag.address, TcpAddress):
        owner = ownership.owner_of(tag.address.port)
        if owner is not None:
            return (
                f"ended with exit code 0, but {owner} listens on its port {tag.address.port}: "
                f"it went to the background; run it in the foreground{how}"
            )
    return ""
