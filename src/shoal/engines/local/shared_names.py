"""The app's names in the `/etc/hosts` that all processes of a container read, where none may have a file of its own.

The file may be a mount point, over which nothing can be renamed: it is written in place, under a lock that the Shoals
of all apps take. Its own lines are never touched, only what follows them.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shoal.engines.local.hosts_block import Block, compose, names_in, owners, parse
from shoal.engines.local.names import MADE_BY_SHOAL
from shoal.errors import EngineError
from shoal.model.app import App
from shoal.model.topology import ANYBODY, EdgeMap

HOSTS = Path("/etc/hosts")
SETTING = "SHOAL_HOSTS"
"""`edit`: also outside of a container. `keep`: never."""
LOCK_S_MAX = 10.0
_CONTAINERS = ("/.dockerenv", "/run/.containerenv")
_LOOK_S = 0.01


def why_not(
    environ: Mapping[str, str] = os.environ,
    *,
    hosts: Path = HOSTS,
    mounts: Path = Path("/proc/self/mountinfo"),
    marks: tuple[str, ...] = _CONTAINERS,
) -> str:
    """Why we may not write names into it; empty: we may. Some 0.1 ms."""
    said = environ.get(SETTING, "")
    if said not in ("", "edit"):
        return f"{SETTING} is {said!r}" + ("" if said == "keep" else ": it may be 'edit' or 'keep'")
    if hosts.is_symlink() or not hosts.is_file():
        return f"{hosts} is no file of its own"
    if not os.access(hosts, os.W_OK):
        return f"{hosts} cannot be written"
    if MADE_BY_SHOAL in _read_text(hosts):
        return f"{hosts} is the private one of a service"
    if said == "edit":
        return ""
    source = _mounted_from(hosts, mounts)
    if source is not None:
        # As container engines do it, from a folder of theirs. The machine's own may be bound in as well.
        return f"{hosts} is the machine's" if source.endswith("/etc/hosts") else ""
    return "" if any(Path(mark).exists() for mark in marks) else f"this is no container, and {hosts} is the machine's"


def _mounted_from(hosts: Path, mounts: Path) -> str | None:
    """Where in its file system the file lies that is mounted there. None: it is no mount point."""
    found = None
    for line in _read_text(mounts).splitlines():
        words = line.split(" ")
        if len(words) > 4 and words[4] == str(hosts):
            found = words[3]  # a later mount lies over an earlier one
    return found


class SharedNames:
    """The block of the app with this state folder. All methods block for some milliseconds: call them in a thread."""

    def __init__(self, state: Path, *, hosts: Path = HOSTS) -> None:
        self._state = str(state)
        self._hosts = hosts
        self._last: tuple[App, EdgeMap] | None = None
        self._gone = False
        self._lock = threading.Lock()

    def write(self, app: App, edges: EdgeMap) -> dict[str, str]:
        """Puts the app's names there, unless they are; takes away blocks of apps that do not run any more. Returns the
        names that it left out, each with whose it is. EngineError."""
        with self._lock:
            if self._gone:
                return {}  # by a start that was given up
            self._last = (app, edges)
            return self._change(app, edges)

    def write_again(self) -> dict[str, str]:
        """As the last time. EngineError."""
        with self._lock:
            return {} if self._gone or self._last is None else self._change(*self._last)

    def remove(self) -> None:
        """Takes the block away for ever: nothing of the app runs any more. EngineError."""
        with self._lock:
            self._gone = True
            self._change(None, None)

    def _change(self, app: App | None, edges: EdgeMap | None) -> dict[str, str]:
        wanted: dict[str, str] = {}
        if app is not None and edges is not None:
            reached = [service.name for service in app.services if (ANYBODY, service.name) in edges.edges]
            wanted = {name: edges.address(ANYBODY, name) for name in reached}
        try:
            with _locked(self._hosts) as fd:
                before = _read(fd)
                others, blocks = parse(before.decode("utf-8", "surrogateescape"))
                alive = [block for block in blocks if block.state == self._state or keeper_lives(Path(block.state))]
                foreign = owners(block for block in alive if block.state != self._state)
                taken = names_in(others)
                left_out = {name: f"app {foreign[name].app!r}" for name in wanted if name in foreign}
                left_out |= {name: "another line" for name in wanted if name in taken}
                entries = tuple(sorted((name, at) for name, at in wanted.items() if name not in left_out))
                mine = [Block(app=app.name, state=self._state, entries=entries)] if app is not None and entries else []
                places = [index for index, block in enumerate(alive) if block.state == self._state]
                # In its old place, so that as little as possible is written.
                at = places[0] if places else len(alive)
                rest = [block for block in alive[at:] if block.state != self._state]
                _write(fd, before, others, [*alive[:at], *mine, *rest])
        except OSError as error:
            raise EngineError(f"{self._hosts} cannot be written: {error.strerror or error}") from error
        return left_out


def _write(fd: int, before: bytes, others: str, blocks: list[Block]) -> None:
    """OSError: it is not there when it is read again."""
    after = _encoded(compose(others, blocks))
    if after == before:
        return
    filled = _encoded(compose(others, blocks, size=len(before)))
    # One write from the first byte that differs. Killed before the cut, it leaves nothing but white space or a comment.
    start = next((at for at, (old, new) in enumerate(zip(before, filled, strict=False)) if old != new), len(before))
    done = start
    while done < len(filled):
        done += os.pwrite(fd, filled[done:], done)
    os.ftruncate(fd, len(after))
    os.fsync(fd)
    if _read(fd) != after:
        raise OSError("what was written is not what is read")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Opened for reading and writing, ours until it is closed. OSError."""
    deadline = time.monotonic() + LOCK_S_MAX
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            _lock(fd, path, deadline)
            if os.path.samestat(os.fstat(fd), path.stat()):
                yield fd
                return
            # Somebody has put another file there in the meantime.
        finally:
            os.close(fd)


def _lock(fd: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"somebody has held a lock on {path} for {LOCK_S_MAX:g} s") from None
            time.sleep(_LOOK_S)


def keeper_lives(state: Path) -> bool:
    """Whether the app with this state folder has a keeper; where it cannot be seen, it counts as alive.

    Its lock tells where it listens. To try the lock itself would keep a keeper that just starts from having it."""
    try:
        where = Path(json.loads((state / "keeper.lock").read_text())["run"]) / "keeper.sock"
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # another user's
    except (ValueError, KeyError, TypeError):
        return False  # none has got so far
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            connection.connect(os.fspath(where))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True  # it has much to do
    return True


def _read(fd: int) -> bytes:
    parts: list[bytes] = []
    at = 0
    while part := os.pread(fd, 65536, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
