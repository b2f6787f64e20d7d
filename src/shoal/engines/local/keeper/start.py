"""The callers' side: starts a keeper for a state folder unless one answers."""

from __future__ import annotations

import os
import select
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from shoal.errors import ConflictError, EngineError, UnsupportedError
from shoal.paths import StateFolder

START_S_MAX = 15.0
SOCKET_PATH_MAX = 107 if sys.platform == "linux" else 103
"""Bytes of a Unix socket's path."""
_LOCKED = 3
_ENV_KEPT = """
PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR LD_LIBRARY_PATH NIX_PATH NIX_LD DBUS_SESSION_BUS_ADDRESS
SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
""".split()  # noqa: SIM905 - a line each would be thirty lines
_ENV_KEPT_PREFIXES = ("LC_", "XDG_", "SHOAL_", "UV_", "PIP_", "PYTHON", "COVERAGE_")


def start_keeper(state: StateFolder, daemon_argv: list[str], *, env: Mapping[str, str] | None = None) -> None:
    """Returns when a keeper answers on `state.keeper_socket`; starts a detached one, which starts the daemon, unless
    there is one. Callers may race: one keeper comes of it.

    `env`: what the daemon gets; by default those of our variables that tell where things are, and no secrets.
    ConflictError: a folder is not ours alone, or another keeper has the state and does not answer. EngineError: it did
    not start. UnsupportedError: not on this machine. At most about 15 s.
    """
    if not hasattr(select, "epoll"):
        raise UnsupportedError("running an app needs Linux", way_out="use Linux, or a Linux virtual machine")
    make_folders(state)
    if answers(state.keeper_socket):
        return
    command = [sys.executable, "-I", "-S", str(Path(__file__).parent), str(state.root), str(state.run), "--"]
    try:
        result = subprocess.run(
            [*command, *daemon_argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            timeout=START_S_MAX,
            env=dict(daemon_environment(os.environ) if env is None else env),
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"the keeper did not start within {START_S_MAX:g} s", way_out=f"look into {state.logs / 'keeper.log'}"
        ) from error
    except OSError as error:
        raise EngineError(f"cannot run {sys.executable}: {error.strerror}") from error
    words = result.stderr.strip()
    if result.returncode == _LOCKED:
        _wait_for_the_winner(state, words)
    elif result.returncode != 0:
        raise EngineError(words or "the keeper did not start", way_out=f"look into {state.logs / 'keeper.log'}")


def answers(path: Path, *, timeout_s: float = 2.0) -> bool:
    """Whether a keeper answers there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(os.fspath(path))
            connection.sendall(b'{"id":0,"op":"hello"}\n')
            return connection.recv(4096).startswith(b"{")
        except OSError:
            return False


def daemon_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Of a user's variables those that say where things are. The daemon outlives the shell, and restarts by itself: a
    password exported there once must not stay with it for weeks."""
    return {key: value for key, value in env.items() if key in _ENV_KEPT or key.startswith(_ENV_KEPT_PREFIXES)}


def make_folders(state: StateFolder) -> None:
    """Creates the state folder and the folder of sockets, 0700. ConflictError: a link, or another user's;
    EngineError: cannot be made; UnsupportedError: the path is too long for a socket."""
    length = len(os.fsencode(state.keeper_socket))
    if length > SOCKET_PATH_MAX:
        raise UnsupportedError(
            f"a socket's path may have {SOCKET_PATH_MAX} bytes, and {state.keeper_socket} has {length}",
            way_out="set XDG_RUNTIME_DIR to a folder with a shorter name",
        )
    own_folder(state.root)
    ignore = state.root / ".gitignore"
    if not ignore.exists():
        try:
            temporary = state.root / f".gitignore.{os.getpid()}.{threading.get_ident()}.tmp"
            temporary.write_text("*\n")
            temporary.rename(ignore)
        except OSError as error:
            raise EngineError(f"cannot write {ignore}: {error.strerror}") from error
    own_folder(state.logs)
    own_folder(state.run.parent)
    own_folder(state.run)


def own_folder(path: Path) -> None:
    """Creates a folder that is ours alone, or makes sure that it is: somebody else could have made it first, to read
    along. Errors as `make_folders`."""
    try:
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            kind = "a link" if stat.S_ISLNK(status.st_mode) else "no folder"
            raise ConflictError(f"{path} is {kind}, and Shoal needs a folder of its own there", way_out="remove it")
        if status.st_uid != os.geteuid():
            raise ConflictError(
                f"{path} belongs to user id {status.st_uid}, not to us ({os.geteuid()})",
                way_out="remove it, or run as the user who started the app",
            )
        if stat.S_IMODE(status.st_mode) != 0o700:
            path.chmod(0o700)
    except OSError as error:
        raise EngineError(
            f"cannot make the folder {path}: {error.strerror}", way_out="make the place writable, or choose another"
        ) from error


def _wait_for_the_winner(state: StateFolder, words: str) -> None:
    """Another keeper has the lock: it is about to answer, or never will."""
    deadline = time.monotonic() + START_S_MAX
    while not answers(state.keeper_socket):
        if time.monotonic() > deadline:
            raise ConflictError(
                f"the keeper does not answer on {state.keeper_socket}: {words}",
                way_out="if its sockets are elsewhere, set XDG_RUNTIME_DIR as it was; else end that process",
            )
        time.sleep(0.02)
