"""`shoal dev`: the app from the working tree; a saved file reloads its service, and no other."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shoal.cli import watching
from shoal.cli.debugging import PORTS, Debugged, debugged, language_of
from shoal.cli.imports import Imports
from shoal.cli.interleaved import Interleaved
from shoal.cli.options import file_option, shoal_command
from shoal.cli.output import show_error
from shoal.cli.progress import is_up
from shoal.cli.target import app_of
from shoal.cli.up import Up, sigterm_as_interrupt
from shoal.cli.views import addresses
from shoal.client.plane import plane_runs
from shoal.errors import NotRunningError, ShoalError, UsageError
from shoal.model.app import App
from shoal.model.status import AppStatus
from shoal.paths import StateFolder
from shoal.spec.find import app_file, nearest_app_file

if TYPE_CHECKING:
    from shoal.model.journal import JournalEntry

STEP_MS = 20
"""A change is taken up when the files were quiet for so long: editors write in bursts."""
DEBOUNCE_MS = 400
LOOK_MS = 150
"""How often is looked whether the app is up, or was taken down, while no file changes."""
_GONE_AFTER = 3
"""So many looks in a row find no plane before it counts as taken down."""
_PORTS_TRIED = 50


@shoal_command(
    "dev",
    ("shoal dev", "run the app of the nearest shoal.yaml; save a file and its service reloads"),
    ("shoal dev --debug web", "with a debugger to attach to: debugpy, or Node's inspector"),
    ("shoal dev hello:app --port 8080", "a single Python application, without a file"),
)
@click.argument("target", required=False, metavar="[MODULE:ATTRIBUTE]")
@click.option("--debug", multiple=True, metavar="SERVICE", help="Let a debugger attach to it. May be given again.")
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="PORT", help="With MODULE:ATTRIBUTE: its port. Default: 8080."
)
@file_option()
def command(target: str | None, debug: tuple[str, ...], port: int | None, file: Path | None, as_json: bool) -> None:
    """Run the app from the working tree, one replica of each service, with what they print in one stream.

    A saved file reloads the services that it is part of, and no other: those that import it, or else those of its
    folder. The old code serves until the new code is ready; when the new code does not start, its traceback is shown
    and the old code serves on. A changed app file is taken up too. Ctrl-C takes the app down.
    """
    named = None if target is not None else (nearest_app_file(Path.cwd()) if file is None else app_file(file)).resolve()
    addresses: dict[str, str] = {}

    def load() -> tuple[App, list[Debugged]]:
        return for_people(app_of(target, port, file, verb="dev"), debug, addresses)

    app, debugging = load()
    with sigterm_as_interrupt():
        Dev(app, debugging, load, named, as_json=as_json).run()


def for_people(app: App, debug: Sequence[str], addresses: dict[str, str]) -> tuple[App, list[Debugged]]:
    """The app with one replica of each service; what can be attached to. `addresses`: of debuggers, kept between
    loads. Raises UsageError."""
    known = [service.name for service in app.services]
    unknown = [name for name in debug if name not in known]
    if unknown:
        raise UsageError(f"--debug: {app.name} has no service '{unknown[0]}'", way_out="there are: " + ", ".join(known))
    services, debugging = [], []
    for service in app.services:
        changed = replace(service, replicas=min(1, service.replicas))
        if service.name in debug:
            if service.name not in addresses:
                port = _free_port(PORTS.get(language_of(service) or "", 5678), set(addresses.values()))
                addresses[service.name] = f"127.0.0.1:{port}"
            made = debugged(changed, addresses[service.name])
            debugging.append(made)
            changed = made.service
        services.append(changed)
    return replace(app, services=tuple(services), dev=True), debugging


class Dev:
    """One session. `load` reads the app again; `file` is the app file, None where there is none."""

    def __init__(
        self,
        app: App,
        debugging: list[Debugged],
        load: Callable[[], tuple[App, list[Debugged]]],
        file: Path | None,
        *,
        as_json: bool,
    ) -> None:
        self.app, self.debugging, self._load, self._file = app, debugging, load, file
        self.state = StateFolder.beside(Path(app.folder))
        self.up = Up(app, self.state, 0.0, detach=False, as_json=as_json)
        self.out = Interleaved([service.name for service in app.services], as_json=as_json)
        self._imports = Imports()
        self._since = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        self._listening: set[str] = set()
        self._announced = False
        self._generation = 0
        self._serving: set[str] = set()
        self._leaving: set[str] = set()
        self._absent = 0

    def run(self) -> None:
        """Until Ctrl-C, or until somebody else takes the app down."""
        _, deployment = self.up.deploy()
        self._generation = deployment.generation
        try:
            self._listen(deployment.sequence)
            while self._watch():
                pass
        except KeyboardInterrupt:
            self.out.close()
            self.up.interrupted()
            return
        self.out.close()
        self.out.say("", f"{self.app.name} was taken down")

    # --- what is saved

    def _watch(self) -> bool:
        """Until the watched folders change (True), or the plane is gone (False)."""
        from watchfiles import watch

        root = Path(self.app.folder)
        watched = watching.folders(self.app)
        watching.affected(self.app, [], self._imports)  # read once, so that the first change finds it known
        changes = watch(
            *watched,
            watch_filter=lambda _, path: watching.is_source(Path(path), _root_of(Path(path), watched) or root),
            step=STEP_MS,
            debounce=DEBOUNCE_MS,
            rust_timeout=LOOK_MS,
            yield_on_timeout=True,
            raise_interrupt=True,
        )
        for found in changes:
            if found:
                self._changed(sorted({Path(path) for _, path in found}))
                if watching.folders(self.app) != watched:
                    return True
            elif not self._look():
                return False
        return True

    def _changed(self, paths: list[Path]) -> None:
        try:
            if self._file in paths:
                self._reload_app()
                paths = [path for path in paths if path != self._file]
            for name, files in watching.affected(self.app, paths, self._imports).items():
                if next(service.replicas for service in self.app.services if service.name == name):
                    self.out.reload(name, [self._short(path) for path in files])
                    self.up.client.restart(name)
        except ShoalError as error:
            # Whatever it is, what runs goes on, and the next change may mend it.
            self.out.error(error)

    def _reload_app(self) -> None:
        app, self.debugging = self._load()
        from shoal.spec.wire import to_plain

        deployment = self.up.client.deploy(to_plain(app))
        self.app, self._generation = app, deployment.generation
        self.up.app = app
        self.out.services([service.name for service in app.services])
        changed = ", ".join(deployment.changed + tuple(f"{name} is removed" for name in deployment.removed))
        self.out.say("", f"{self._short(self._file or Path())} changed: {changed or 'nothing to replace'}")
        self._listen(deployment.sequence)

    def _short(self, path: Path) -> str:
        root = Path(self.app.folder)
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)

    def _look(self) -> bool:
        """Announces the app once it is up. False: the plane is gone."""
        if self._announced:
            self._absent = 0 if plane_runs(self.state) else self._absent + 1
            return self._absent < _GONE_AFTER
        try:
            status = self.up.client.status()
        except NotRunningError:
            self._absent += 1
            return self._absent < _GONE_AFTER or plane_runs(self.state)
        self._absent = 0
        if is_up(status, self._generation):
            self._announced = True
            self._announce(status)
        return True

    def _announce(self, status: AppStatus) -> None:
        seconds = time.monotonic() - self.up.started_at
        self.out.up(status, f"{status.app} is up in dev mode ({seconds:.1f} s); Ctrl-C stops it", addresses(status))
        for made in self.debugging:
            how = "debugpy" if made.language == "Python" else "Node's inspector"
            self.out.say(made.service.name, f"debugger ({how}): attach to {made.address}")

    # --- what is told

    def _listen(self, sequence: int) -> None:
        """Follows the events, and the logs of each service, in threads that end with this process."""
        wanted: dict[str, Callable[[], None]] = {"": lambda: self._events(sequence)}
        for service in self.app.services:
            if not service.is_external:
                wanted[service.name] = partial(self._logs, service.name)
        for name, work in wanted.items():
            if name not in self._listening:
                self._listening.add(name)
                threading.Thread(target=_quietly(work), daemon=True, name=f"dev {name or 'events'}").start()

    def _logs(self, name: str) -> None:
        for line in self.up.client.logs(name, tail=1000, follow=True):
            if line.at >= self._since:
                self.out.log(name, line)

    def _events(self, sequence: int) -> None:
        for entry in self.up.client.events(sequence, follow=True):
            if (words := self._words(entry)) is not None:
                self.out.event(entry, *words)

    def _words(self, entry: JournalEntry) -> tuple[str, str] | None:
        """Service and words of what is worth a line; None: that is how things go."""
        subject, kind = entry.subject, entry.kind
        service = re.sub(r"-r\d+$", "", subject)
        if kind == "ReplicaReady":
            self._serving.add(subject)
            return service, f"{entry.message} ({subject})"
        if kind == "DrainStarted":
            self._leaving.add(subject)
            self._serving.discard(subject)
            return None
        if kind == "ReplicaExited":
            self._serving.discard(subject)
            if subject in self._leaving:
                self._leaving.discard(subject)
                return None
            older = [name for name in self._serving if name.startswith(f"{service}-r")]
            then = f"; {older[0]} serves on with the code before, save again" if older else ""
            return service, f"{subject} {entry.message}{then}"
        if kind in ("Warned", "CallDenied", "ReplicaUnready", "ResourceRejected", "CrashLoopDetected", "ProxyExited"):
            names = {known.name for known in self.app.services}
            return (service, entry.message) if service in names else ("", f"{subject}: {entry.message}")
        return None


def _quietly(work: Callable[[], None]) -> Callable[[], None]:
    """The end of the plane ends its followers; the main thread is the one that says so."""

    def run() -> None:
        try:
            work()
        except ShoalError as error:
            if not isinstance(error, NotRunningError):
                show_error(error)
        except (BrokenPipeError, ValueError):
            pass  # nobody reads any more

    return run


def _root_of(path: Path, folders: Sequence[Path]) -> Path | None:
    return next((folder for folder in folders if path.is_relative_to(folder)), None)


def _free_port(first: int, taken: set[str]) -> int:
    """The usual port of the debugger, or the next that is free."""
    for port in range(first, first + _PORTS_TRIED):
        if f"127.0.0.1:{port}" in taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise UsageError(f"no port near {first} is free for the debugger", way_out="end what holds them: ss -ltnp")
