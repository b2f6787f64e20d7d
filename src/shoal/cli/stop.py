"""Taking an app down and watching it go: for `shoal down`, and for Ctrl-C in `shoal up`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shoal.cli.output import clean, note
from shoal.client.plane import Departure
from shoal.errors import NotReadyError, NotRunningError, ShoalError
from shoal.model.status import AppStatus
from shoal.paths import StateFolder

if TYPE_CHECKING:
    from shoal.client.http import Client

DOWN_S_MAX = 90.0
"""More than the longest drain (30 s), SIGTERM's time (10 s) and Envoy's end together."""
HURRIED_S_MAX = 30.0
_POLL_S = 0.05
_TELL_EVERY_S = 5.0


def take_down(client: Client, state: StateFolder, *, timeout_s: float = DOWN_S_MAX, now: bool = False) -> None:
    """Returns when no process of the app or of its plane is left. Raises NotReadyError when that takes too long; it
    goes on in the background then. May be interrupted, with the same effect. `now`: requests under way are not
    waited for."""
    deadline = time.monotonic() + timeout_s
    tell_at = time.monotonic() + _TELL_EVERY_S
    with Departure(state) as departure:
        client.down(now=now)
        while not departure.done():
            at = time.monotonic()
            if at > deadline:
                left = _left(client)
                raise NotReadyError(
                    f"not everything has stopped within {timeout_s:g} s" + (f": {left}" if left else ""),
                    way_out=f"it goes on stopping; the logs are in {state.logs}",
                )
            if at > tell_at:
                tell_at = at + _TELL_EVERY_S
                if left := _left(client):
                    note(f"still stopping: {left}")
            time.sleep(_POLL_S)


def hurry(client: Client, state: StateFolder) -> None:
    """After an interruption of `take_down`: all is told to stop at once. May be interrupted too; it goes on then."""
    note("hurrying: requests under way are not waited for (Ctrl-C again leaves it to the background)")
    try:
        take_down(client, state, timeout_s=HURRIED_S_MAX, now=True)
    except NotRunningError:
        pass  # it was done just then


def _left(client: Client) -> str:
    """The replicas that still run; empty when nobody can say."""
    try:
        status: AppStatus = client.status()
    except ShoalError:
        return ""
    replicas = [replica for service in status.services for replica in service.replicas]
    return ", ".join(f"{replica.id} ({clean(replica.reason)})" for replica in replicas)
