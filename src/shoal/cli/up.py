"""`shoal up`: the file is checked, the plane started, the app deployed, and followed until it is ready or cannot be.

In the foreground it goes on showing events until Ctrl-C, which takes the app down. As with Compose: a first `up` that
fails in the foreground leaves nothing behind; with `-d` it leaves all running, for that is how one looks into it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shoal import __version__
from shoal.cli.options import file_option, shoal_command
from shoal.cli.output import emit, emit_line, is_terminal, note, problem_details, say, show_error
from shoal.cli.stop import hurry, take_down
from shoal.cli.target import app_of, folder_of
from shoal.cli.views import addresses, entry_line, names_note, services_table, summary
from shoal.cli.waiting import READY_S_MAX, Waiting
from shoal.client.headstart import head_start
from shoal.client.plane import Departure, ensure_plane, plane_runs
from shoal.errors import ConflictError, NotReadyError, NotRunningError
from shoal.model.app import App
from shoal.model.status import AppStatus, Deployment, Health
from shoal.paths import StateFolder

if TYPE_CHECKING:
    from shoal.client.http import Client

_POLL_S = 0.2
_GOING_DOWN_S_MAX = 60.0


@shoal_command(
    "up",
    ("shoal up", "start the app of the nearest shoal.yaml; Ctrl-C stops it"),
    ("shoal up -d", "return when it is ready, and let it run"),
    ("shoal up -f examples/shop", "of another folder"),
    ("shoal up hello:app --port 8080", "a single Python application, without a file"),
)
@click.argument("target", required=False, metavar="[MODULE:ATTRIBUTE]")
@click.option("-d", "--detach", is_flag=True, help="Return when it is ready; it runs on.")
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="PORT", help="With MODULE:ATTRIBUTE: its port. Default: 8080."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=READY_S_MAX,
    show_default=True,
    metavar="SECONDS",
    help="How long it may take to get ready.",
)
@file_option()
def command(
    target: str | None, detach: bool, port: int | None, timeout: float, file: Path | None, as_json: bool
) -> int | None:
    """Start the app, or bring a running one to what its file says: only what has changed is replaced.

    Nothing is started when the file has a problem. Exit status 5 when the app does not get ready in time, or a service
    ends again and again: then its last lines are shown. In the foreground such an app is taken down again, unless
    it was serving before; with -d it runs on. Ctrl-C in the foreground takes the app down, also one that ran before.
    """
    with head_start(folder_of(target, file)):
        app = app_of(target, port, file)
    state = StateFolder.beside(Path(app.folder))
    with sigterm_as_interrupt():
        return Up(app, state, timeout, detach=detach, as_json=as_json).run()


class Up:
    """One deploy that is waited for, and its end."""

    def __init__(self, app: App, state: StateFolder, timeout_s: float, *, detach: bool, as_json: bool) -> None:
        self.app, self.state, self.timeout_s = app, state, timeout_s
        self.detach, self.as_json = detach, as_json
        self.started_at = time.monotonic()
        self.client: Client

    def run(self) -> int | None:
        """The exit status, where it is not 0."""
        try:
            fresh, deployment = self.deploy()
        except KeyboardInterrupt:
            note("interrupted; what was started runs on: shoal status, shoal down")
            raise
        try:
            status = self._wait(deployment)
        except NotReadyError as error:
            return self._failed(error, fresh)
        except KeyboardInterrupt:
            if self.detach:
                note("interrupted; it goes on starting: shoal status, shoal down")
                raise
            return self.interrupted()
        self._announce(status)
        if self.detach:
            return None
        try:
            self._follow(status.sequence)
        except KeyboardInterrupt:
            return self.interrupted()
        return None

    def deploy(self) -> tuple[bool, Deployment]:
        """Whether nothing was serving before, and the answer."""
        from shoal.client.http import Client
        from shoal.spec.wire import to_plain

        ensure_plane(self.state)
        self.client = Client(self.state.api_socket)
        before = self.client.status()
        if before.health is Health.STOPPING:
            note(f"{before.app} is going down; waiting for that first")
            with Departure(self.state) as departure:
                if not departure.wait(_GOING_DOWN_S_MAX):
                    raise ConflictError(f"{before.app} does not end", way_out="see what is left: shoal ps")
            ensure_plane(self.state)
            before = self.client.status()
        if before.version != __version__:
            self._take_over(before)
        return not any(service.ready for service in before.services), self.client.deploy(to_plain(self.app))

    def _take_over(self, before: AppStatus) -> None:
        """From the Shoal of another version that runs the app. Raises ConflictError when that one is newer."""
        from shoal.client.upgrade import hand_over, refuse_older

        refuse_older(before.version, __version__)
        note(f"Shoal {before.version} runs {before.app}; {__version__} takes over, and nothing is restarted for that")
        hand_over(self.state, self.client, __version__)

    def _wait(self, deployment: Deployment) -> AppStatus:
        """Shows what happens until all is ready. Raises NotReadyError."""
        waiting = Waiting(self.client, self.state, self.timeout_s, self.started_at, quiet=self.as_json)
        return waiting.until_up(deployment.generation, deployment.rolling)

    def _announce(self, status: AppStatus) -> None:
        if self.as_json:
            emit(status) if self.detach else emit_line(status)
            return
        if is_terminal():
            say(*services_table(status), "")
        say(f"{status.app} is up: {summary(status)} ready ({time.monotonic() - self.started_at:.1f} s)")
        say(*addresses(status))
        for words in names_note(status):
            note(words)
        if self.detach:
            say("it runs on: shoal status, shoal logs SERVICE -f, shoal down")
        else:
            say("Ctrl-C stops it; what happens is shown here")

    def _follow(self, sequence: int) -> None:
        """Shows events until interrupted, or until somebody else takes the app down."""
        while True:
            try:
                for entry in self.client.events(sequence, follow=True):
                    sequence = entry.sequence
                    if self.as_json:
                        emit_line(entry)
                    else:
                        say(entry_line(entry))
                    if entry.kind == "DownRequested":
                        with Departure(self.state) as departure:
                            departure.wait(_GOING_DOWN_S_MAX)
                        break
            except NotRunningError:
                pass
            if not plane_runs(self.state):
                note(f"{self.app.name} was taken down")
                return
            time.sleep(_POLL_S)

    def _failed(self, error: NotReadyError, fresh: bool) -> int:
        """Says why; takes down what nobody had before and nobody would look after."""
        show_error(error)
        if self.as_json:
            emit(problem_details(error))
        if not fresh:
            note("what was serving before goes on: shoal status")
        elif self.detach:
            note("it goes on trying: shoal status; shoal down ends it")
        else:
            note("taking it down again")
            take_down(self.client, self.state)
        return error.exit_code

    def interrupted(self) -> int | None:
        note(f"\nstopping {self.app.name} (Ctrl-C again hurries)")
        try:
            try:
                take_down(self.client, self.state)
            except KeyboardInterrupt:
                hurry(self.client, self.state)
        except KeyboardInterrupt:
            note(f"{self.app.name} goes on stopping: shoal status")
            return 130
        note(f"{self.app.name} is down")
        return None


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends `up` as Ctrl-C does: whoever runs it wants the app gone with it."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
