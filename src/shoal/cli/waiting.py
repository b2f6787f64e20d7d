"""Waiting, with what happens in view, until what was asked for is there or cannot be: for `up`, `deploy` and others."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from shoal.cli.options import F
from shoal.cli.output import is_terminal, say
from shoal.cli.progress import Progress, failing, is_up, rolled_back, why_not_ready, why_rolled_back
from shoal.cli.views import reasons, rollouts_table, services_table
from shoal.client.plane import plane_runs
from shoal.errors import NotRunningError
from shoal.model.status import AppStatus
from shoal.paths import StateFolder

if TYPE_CHECKING:
    from shoal.client.http import Client

READY_S_MAX = 120.0
_POLL_FAST_S, _POLL_S, _FAST_FOR_S = 0.05, 0.2, 5.0
_RECONNECT_S_MAX = 10.0
"""So long may the plane be away (its keeper restarts it) before the app counts as taken down by somebody else."""


def waiting_options() -> Callable[[F], F]:
    """`--detach` and `--timeout` of a command that begins a rollout."""

    def add(function: F) -> F:
        timeout = click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=10 * READY_S_MAX,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait; it goes on afterwards.",
        )
        return click.option("-d", "--detach", is_flag=True, help="Do not wait for its end.")(timeout(function))

    return add


class Waiting:
    """`quiet`: shows nothing. `started_at`: on the monotonic clock; times are counted from there."""

    def __init__(self, client: Client, state: StateFolder, timeout_s: float, started_at: float, *, quiet: bool) -> None:
        self._client, self._state = client, state
        self._timeout_s, self._started_at, self._quiet = timeout_s, started_at, quiet

    def until_up(self, generation: int, rolling: Collection[str]) -> AppStatus:
        """Until all of this deploy is ready. Raises NotReadyError, RolledBackError."""

        def look(status: AppStatus, elapsed_s: float) -> bool:
            if is_up(status, generation, rolling):
                if back := rolled_back(status, rolling):
                    raise why_rolled_back(back)
                return True
            tried = any(s.rollout is not None and s.rollout.state == "canary" for s in status.services)
            if failing(status) or (elapsed_s > self._timeout_s and not tried):  # a canary takes the time it takes
                raise why_not_ready(status, elapsed_s)
            return False

        return self._until(look)

    def until_rolled(self, services: Collection[str]) -> AppStatus:
        """Until the rollouts of these services have ended. Raises NotReadyError, RolledBackError."""

        def look(status: AppStatus, elapsed_s: float) -> bool:
            concerned = [s for s in status.services if s.name in services and s.rollout is not None]
            only = [s for s in failing(status) if s in concerned]
            if only or elapsed_s > self._timeout_s:
                raise why_not_ready(status, elapsed_s)
            if any(s.rollout is not None and s.rollout.under_way and not s.rollout.stands for s in concerned):
                return False
            if back := rolled_back(status, services):
                raise why_rolled_back(back)
            return True

        return self._until(look)

    def _until(self, look: Callable[[AppStatus, float], bool]) -> AppStatus:
        progress = Progress()
        with ExitStack() as stack:
            display = None
            if is_terminal() and not self._quiet:
                from shoal.cli.live import Display

                display = stack.enter_context(Display())
            while True:
                status = self._status()
                elapsed = time.monotonic() - self._started_at
                lines = progress.changes(status, elapsed)
                if display is not None:
                    rolling = rollouts_table(status)
                    display.show([*services_table(status), *(["", *rolling] if rolling else []), "", *reasons(status)])
                elif not self._quiet:
                    say(*lines)
                if look(status, elapsed):
                    return status
                time.sleep(_POLL_FAST_S if elapsed < _FAST_FOR_S else _POLL_S)

    def _status(self) -> AppStatus:
        """Of a plane that may just be restarted by its keeper. Raises NotRunningError when it stays away."""
        deadline = time.monotonic() + _RECONNECT_S_MAX
        while True:
            try:
                return self._client.status()
            except NotRunningError:
                if time.monotonic() > deadline or not plane_runs(self._state):
                    raise
                time.sleep(_POLL_S)
