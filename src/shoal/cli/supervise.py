"""`shoal supervise`: the process that a service manager watches."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from shoal import __version__
from shoal.cli.notify import notify
from shoal.cli.options import file_option, shoal_command
from shoal.cli.output import emit_line, note, say
from shoal.cli.target import app_of
from shoal.cli.views import entry_line, summary
from shoal.client.plane import ensure_plane, plane_runs
from shoal.errors import NotRunningError
from shoal.model.status import AppStatus, Health
from shoal.paths import StateFolder

READY_S_MAX = 600.0
_POLL_S = 0.2
_STATUS_S = 5.0


class _Ended(Exception):  # noqa: N818 - it is no error
    """SIGTERM or SIGINT."""


@shoal_command("supervise", ("shoal supervise -f /srv/shop/shoal.yaml", "what `shoal install` writes into its unit"))
@file_option()
def command(file: Path | None, as_json: bool) -> int:
    """Keep the app up for a service manager such as systemd, and tell it when all is ready (sd_notify).

    What was deployed last goes on, or comes back after a reboot; only an app that is down is deployed from its file.
    Ended by a signal it leaves the app running: `shoal down` stops it. Exit status 0 then, and when somebody took the
    app down; 5 when it did not get ready in time: it runs on all the same.
    """
    app = app_of(None, None, file)
    state = StateFolder.beside(Path(app.folder))

    def ended(_number: int, _frame: object) -> None:
        raise _Ended

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ended)
    try:
        return _Watch(state, as_json=as_json).run(file)
    except _Ended:
        notify("STOPPING=1")
        note(f"{app.name} runs on: shoal down stops it")
        return 0


class _Watch:
    def __init__(self, state: StateFolder, *, as_json: bool) -> None:
        from shoal.client.http import Client

        self._state = state
        self._as_json = as_json
        self._client = Client(state.api_socket)

    def run(self, file: Path | None) -> int:
        """The exit status. Raises what `shoal up` raises when the app cannot be deployed."""
        self._bring_up(file)
        notify("STATUS=starting")
        deadline = time.monotonic() + READY_S_MAX
        while (status := self._client.status()).health is not Health.READY:
            if time.monotonic() > deadline:
                note(f"not ready after {READY_S_MAX:g} s: {status.reason}")
                return 5
            notify(f"STATUS={summary(status)} ready", "EXTEND_TIMEOUT_USEC=30000000")
            time.sleep(_POLL_S)
        notify("READY=1", f"STATUS={summary(status)} ready")
        if not self._as_json:
            say(f"{status.app} is up: {summary(status)} ready")
        return self._follow(status)

    def _bring_up(self, file: Path | None) -> None:
        from shoal.client.upgrade import hand_over, is_newer
        from shoal.spec.wire import to_plain

        ensure_plane(self._state)
        status = self._client.status()
        if is_newer(__version__, status.version):
            hand_over(self._state, self._client, __version__)
        if not status.services or status.health in (Health.STOPPED, Health.STOPPING):
            self._client.deploy(to_plain(app_of(None, None, file)))

    def _follow(self, status: AppStatus) -> int:
        """Until somebody takes the app down. Events go to the manager's log."""
        sequence = status.sequence
        while True:
            try:
                for entry in self._client.events(sequence, follow=True):
                    sequence = entry.sequence
                    emit_line(entry) if self._as_json else say(entry_line(entry))
                    if entry.kind == "DownRequested":
                        notify("STOPPING=1")
            except NotRunningError:
                pass
            if not plane_runs(self._state):
                return 0
            time.sleep(_POLL_S)
