"""Bringing the control plane of an app up, and seeing it gone.

The keeper starts the daemon and restarts it; here it is only asked for, and waited for.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shoal.engines.local.keeper import start
from shoal.errors import EngineError
from shoal.model.status import ExecContext
from shoal.paths import StateFolder

START_S_MAX = 30.0
DEATHS_MAX = 3
"""So often the daemon may end before it has answered once."""
_POLL_S = 0.01
_TAIL_LINES = 20


def ensure_plane(state: StateFolder, *, timeout_s: float = START_S_MAX) -> bool:
    """Returns once the API answers: False when it did already, True when the plane had to be started.

    EngineError, with the end of its log, when the daemon ends again and again or does not answer in time; ConflictError
    and UnsupportedError as `start_keeper`.
    """
    if accepts(state.api_socket):
        return False
    log = state.logs / "daemon.log"
    read_from = log.stat().st_size if log.exists() else 0
    deadline = time.monotonic() + timeout_s
    start.start_keeper(state, [sys.executable, "-m", "shoal.daemon", str(state.root)])
    deaths: set[object] = set()
    while not accepts(state.api_socket):
        daemon = daemon_process(state)
        if daemon is not None and not daemon["running"]:
            deaths.add(daemon["pid"])
        late = time.monotonic() > deadline
        if late or len(deaths) >= DEATHS_MAX:
            dismiss(state)
            what = f"did not answer within {timeout_s:g} s" if late else "ends as soon as it starts"
            raise EngineError(
                f"Shoal's daemon {what}",
                way_out=f"its whole log is {log}; `shoal doctor` looks at the machine",
                detail="\n".join(_tail(log, read_from)),
            )
        time.sleep(_POLL_S)
    return True


def plane_runs(state: StateFolder) -> bool:
    """Whether anything of it is there: the daemon, or the keeper, which may be about to start it again."""
    return accepts(state.api_socket) or accepts(state.keeper_socket)


def answers_soon(state: StateFolder, *, timeout_s: float) -> bool:
    """Whether the API answers within this time; False at once when there is no keeper to start its daemon again."""
    deadline = time.monotonic() + timeout_s
    while not accepts(state.api_socket):
        if time.monotonic() > deadline or not accepts(state.keeper_socket):
            return False
        time.sleep(_POLL_S)
    return True


def has_leftovers(state: StateFolder) -> bool:
    """Whether processes of an app were written down that no keeper looks after now."""
    try:
        return any(entry.suffix == ".json" for entry in state.processes.iterdir())
    except OSError:
        return False


class Departure:
    """Watches keeper and daemon end. Enter it before they are asked to: their pids are known only while they run."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self._handles: list[int] = []

    def __enter__(self) -> Departure:
        pids = [ask_keeper(self._state, "hello").get("pid"), (daemon_process(self._state) or {}).get("pid")]
        for pid in pids:
            try:
                if isinstance(pid, int):
                    self._handles.append(os.pidfd_open(pid))
            except OSError:
                pass  # has ended
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            os.close(handle)

    def done(self) -> bool:
        """Whether nothing is left: neither a process nor somebody at a socket."""
        ended, _, _ = select.select(self._handles, [], [], 0)
        return len(ended) == len(self._handles) and not plane_runs(self._state)

    def wait(self, timeout_s: float) -> bool:
        """Whether it is done within this time."""
        deadline = time.monotonic() + timeout_s
        while not self.done():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True


def accepts(path: Path) -> bool:
    """Whether somebody listens on this Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(2.0)
        try:
            connection.connect(os.fspath(path))
        except OSError:
            return False
        return True


def entering(context: ExecContext, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` as part of a service. Within its private hosts file and its network, where it has
    them: then the keeper's own way in is run by its path, which needs nothing of this environment."""
    if context.hosts is None and context.network is None:
        return list(argv)
    enter = Path(start.__file__).with_name("enter.py")
    inside = [context.hosts or "-", context.nsswitch or "-"]
    if context.network or context.files:
        inside.append(context.network or "-")
    if context.files:
        inside.append(context.files)
    return [sys.executable, "-I", "-S", str(enter), *inside, "--", *argv]


def dismiss(state: StateFolder) -> None:
    """Ends a keeper that looks after nothing but its daemon, and that daemon."""
    processes = ask_keeper(state, "list").get("processes")
    if processes is not None and not any(p["running"] and p["name"] != "daemon" for p in processes):
        ask_keeper(state, "shutdown")
        ask_keeper(state, "signal", name="daemon", signal=int(signal.SIGTERM), group=True)


def daemon_process(state: StateFolder) -> dict[str, Any] | None:
    """What the keeper knows of the daemon's process; None: nothing."""
    processes = ask_keeper(state, "list").get("processes", [])
    return next((process for process in processes if process["name"] == "daemon"), None)


def ask_keeper(state: StateFolder, op: str, **fields: object) -> dict[str, Any]:
    """The keeper's answer; empty when there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(2.0)
        try:
            connection.connect(os.fspath(state.keeper_socket))
            connection.sendall(json.dumps({"id": 1, "op": op, **fields}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline(1 << 24))
        except (OSError, ValueError):
            return {}
    found: dict[str, Any] = answer.get("ok", {})
    return found


def _tail(log: Path, read_from: int) -> list[str]:
    """Its last lines, without the keeper's time stamps."""
    try:
        with log.open("rb") as stream:
            stream.seek(min(read_from, log.stat().st_size))
            lines = stream.read(1 << 20).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line.partition(" ")[2] for line in lines[-_TAIL_LINES:]]
