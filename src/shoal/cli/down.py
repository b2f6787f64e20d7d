"""`shoal down`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command, state_folder
from shoal.cli.output import emit, say
from shoal.cli.stop import DOWN_S_MAX, hurry, take_down
from shoal.cli.views import summary
from shoal.client.plane import ensure_plane, has_leftovers, plane_runs


@shoal_command(
    "down",
    ("shoal down", "let requests finish, stop everything, and wait for it"),
    ("shoal down --now", "wait for no requests, also when it is going down already"),
    ("shoal down -f examples/shop", "of another app"),
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=DOWN_S_MAX,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait; it goes on afterwards.",
)
@click.option("--now", is_flag=True, help="Stop all at once: requests under way are lost.")
@file_option()
def command(timeout: float, now: bool, file: Path | None, as_json: bool) -> None:
    """Stop the app and its control plane. What a service keeps in SHOAL_DATA_DIR stays.

    Callers end before those that they call, and each once its requests under way have ended, or had their `drain`.
    Ctrl-C, or `shoal down --now` from elsewhere, hurries that.

    When nothing runs, that is said, and the exit status is 0.
    """
    state = state_folder(file)
    if not plane_runs(state) and not has_leftovers(state):
        if as_json:
            emit({"stopped": False, "app": None})
        else:
            say(f"nothing runs in {state.root.parent}")
        return
    # Also when the daemon is just being restarted, or processes outlived both: only a plane can end them in order.
    ensure_plane(state)
    started = time.monotonic()
    client = connect(file)
    status = client.status()
    if not as_json:
        say(f"stopping {status.app or 'the control plane'}: {summary(status)}")
    try:
        take_down(client, state, timeout_s=timeout, now=now)
    except KeyboardInterrupt:
        if now:
            raise
        hurry(client, state)
    if as_json:
        emit({"stopped": True, "app": status.app, "services": [service.name for service in status.services]})
    else:
        say(f"{status.app or 'the control plane'} is down ({time.monotonic() - started:.1f} s)")
