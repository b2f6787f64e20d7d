"""Handing a running app over to the Shoal that runs this: another keeper, then another daemon; nothing else stops.

Both may be killed at any moment, and whoever comes next finds all as it was: an upgrade is no more than that, in the
right order.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoal.client.plane import ask_keeper, daemon_process, ensure_plane
from shoal.errors import ConflictError, EngineError

if TYPE_CHECKING:
    from shoal.client.http import Client
    from shoal.model.status import AppStatus
    from shoal.paths import StateFolder

END_S_MAX = 5.0
TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Who had the app, and who has it."""

    from_version: str
    to_version: str
    keeper_pid: int
    daemon_pid: int
    replicas: int
    """Processes of the app that went on."""


def is_newer(version: str, than: str) -> bool:
    """Of two versions like `0.2.0`; text that is none counts as the oldest."""
    return _key(version) > _key(than)


def refuse_older(running: str, ours: str) -> None:
    """Raises ConflictError when the app is run by a newer Shoal than this one."""
    if is_newer(running, ours):
        raise ConflictError(
            f"Shoal {running} runs this app, and this is {ours}, which may not know all that it does",
            way_out=f"use Shoal {running} or newer; to go back to {ours}: shoal down with the newer one first",
        )


def hand_over(state: StateFolder, client: Client, ours: str) -> Handover:
    """Replaces keeper and daemon by those of this very installation. Raises ConflictError when a newer Shoal runs the
    app, EngineError when the new ones do not come up: then the app goes on, and `shoal up` tries again."""
    before = client.status()
    refuse_older(before.version, ours)
    for _ in range(TRIES):
        keeper, daemon = ask_keeper(state, "hello").get("pid"), (daemon_process(state) or {}).get("pid")
        # The daemon first: the moment after which its keeper would start it again is 100 ms long, and a daemon that
        # lives would start a keeper of its own kind again.
        _end(daemon)
        _end(keeper)
        ensure_plane(state)
        after = client.status()
        now = ask_keeper(state, "hello")
        if after.daemon_pid != daemon and now.get("pid") not in (None, keeper) and after.version == ours:
            return Handover(
                from_version=before.version,
                to_version=after.version,
                keeper_pid=now["pid"],
                daemon_pid=after.daemon_pid,
                replicas=_running(after),
            )
    raise EngineError(
        f"Shoal {before.version} comes back whenever {ours} takes over",
        way_out=f"see {state.logs / 'keeper.log'}; {sys.executable} should be the Python of the new one",
    )


def _running(status: AppStatus) -> int:
    return sum(replica.pid is not None for service in status.services for replica in service.replicas)


def _end(pid: object) -> None:
    """SIGTERM, and SIGKILL when that had its time. Neither of the two takes anything along."""
    if not isinstance(pid, int):
        return
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return  # has ended
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], END_S_MAX)[0]:
                return
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def _key(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def wait_for_envoy(client: Client, after: int, *, timeout_s: float) -> str:
    """What became of a replacement of Envoy that was asked for after this sequence of the journal: the entry's words.
    EngineError: nothing within this time."""
    deadline = time.monotonic() + timeout_s
    for entry in client.events(after, follow=True, reconnect_s=timeout_s):
        if entry.kind == "ProxyReplaced":
            return entry.message
        if entry.kind in ("ProxyReplacementFailed", "ProxyExited"):
            raise EngineError(entry.message, way_out="its log: shoal logs envoy")
        if time.monotonic() > deadline:
            break
    raise EngineError(f"Envoy was not replaced within {timeout_s:g} s", way_out="see shoal events")
