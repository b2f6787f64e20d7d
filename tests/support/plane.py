"""A whole Shoal in a temporary folder, run by its command line as a user would.

Each plane has a run folder of its own (`XDG_RUNTIME_DIR`, with a short name), so that planes of several tests live side
by side. Leaving the context always runs `shoal down`, prints the logs (pytest shows them when the test failed), and
asserts that nothing is left: no process, no socket, no shared memory.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from shoal.paths import StateFolder
from tests.support.processes import alive, mentioning, until

ECHO = '''
"""Answers every request with who it is; a body is read and counted."""
import json
import os


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    told = {"service": os.environ.get("SHOAL_SERVICE"), "pid": os.getpid(), "path": scope["path"], "size": size}
    body = json.dumps(told).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
'''
"""`echo:app`, raw ASGI: needs no package."""


@dataclass
class Plane:
    folder: Path
    """With the app file; `.shoal` comes to lie in it."""
    runtime: Path
    """`XDG_RUNTIME_DIR`."""
    command: Sequence[str] = (sys.executable, "-m", "shoal")
    """What runs the command line; another user's has `setpriv ...` before it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to this process's."""
    timeout_s: float = 90.0
    quiet: bool = False
    _shared_memory: set[int] = field(default_factory=set)
    """Inodes that its Envoys were seen to have mapped."""

    @property
    def root(self) -> Path:
        return StateFolder.beside(self.folder).root

    @property
    def run(self) -> Path:
        """The folder of sockets."""
        return self.runtime / "shoal" / StateFolder(self.root).run.name

    def shoal(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `shoal <arguments>` in the app's folder. AssertionError: it failed, and `check` is set."""
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.env(),
            capture_output=True,
            text=True,
            timeout=self.timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        said = f"$ shoal {' '.join(arguments)}  -> {done.returncode}\n{done.stdout}{done.stderr}"
        if not self.quiet:
            print(said)
        assert not check or done.returncode == 0, said
        return done

    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COLUMNS"))}
        return kept | {"XDG_RUNTIME_DIR": str(self.runtime), "NO_COLOR": "1"} | dict(self.environment)

    def up(self, *arguments: str) -> None:
        """`shoal up -d`; returns once all is ready."""
        self.shoal("up", "-d", *arguments)
        self.note_shared_memory()

    def down(self) -> None:
        self.note_shared_memory()
        self.shoal("down")

    def get(self, path: str) -> Any:
        """As `read`, of JSON."""
        return json.loads(self.read(path))

    def read(self, path: str) -> str:
        """An answer of the API, from its socket. OSError or AssertionError: there is none, or no good one."""
        connection = _UnixConnection(self.run / "api.sock")
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, f"GET {path}: {answer.status} {body[:500]!r}"
            return body.decode()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """AppStatus."""
        answer: dict[str, Any] = self.get("/v1/app")
        return answer

    def replicas(self, service: str) -> list[dict[str, Any]]:
        """ReplicaStatus of each."""
        [found] = [entry for entry in self.status()["services"] if entry["name"] == service]
        return list(found["replicas"])

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        return list(self.get(f"/v1/events?after={after}")["events"])

    def keeper_pid(self) -> int:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(str(self.run / "keeper.sock"))
            link.sendall(b'{"id": 1, "op": "hello"}\n')
            with link.makefile() as lines:
                return int(json.loads(lines.readline())["ok"]["pid"])

    def pids(self) -> dict[str, int]:
        """Of Envoy and of each replica that has a process."""
        status = self.status()
        found = {"envoy": status["proxy"]["pid"]}
        for service in status["services"]:
            found |= {replica["id"]: replica["pid"] for replica in service["replicas"] if replica["pid"]}
        return found

    def wait_for_event(self, kind: str, subject: str | None = None, *, after: int = 0, within_s: float = 30.0) -> Any:
        """The first such journal entry with a greater sequence than `after`."""

        def look() -> Any:
            entries = [entry for entry in self.events(after) if entry["kind"] == kind]
            return next((entry for entry in entries if subject in (None, entry["subject"])), None)

        return self.eventually(look, f"an event {kind} of {subject or 'anything'}", within_s=within_s)

    def wait_for_status(self, condition: Callable[[dict[str, Any]], bool], what: str, *, within_s: float = 30.0) -> Any:
        def look() -> Any:
            status = self.status()
            return status if condition(status) else None

        return self.eventually(look, what, within_s=within_s)

    def eventually(self, look: Callable[[], Any], what: str, *, within_s: float = 30.0) -> Any:
        """The first true value of `look`, which may fail while there is nobody to ask."""

        def careful() -> Any:
            try:
                return look()
            except (OSError, http.client.HTTPException):
                return None

        return until(careful, what, within_s=within_s)

    def note_shared_memory(self) -> None:
        """Remembers what Envoy has mapped, so that `assert_nothing_left` tells it from other planes'."""
        for pid, command in mentioning(self.root, self.run).items():
            if "envoy" in command:
                self._shared_memory |= _shared_memory_of(pid)

    def assert_nothing_left(self) -> None:
        left = mentioning(self.root, self.run)
        assert not left, f"processes are left: {left}"
        sockets = [str(path) for path in self.run.glob("*") if path.is_socket()] if self.run.exists() else []
        assert not sockets, f"sockets are left: {sockets}"
        memory = [path.name for path in Path("/dev/shm").glob("*") if path.stat().st_ino in self._shared_memory]
        assert not memory, f"shared memory is left: {memory}"

    def log_text(self, service: str, replica: str) -> str:
        """All that is kept of a replica's output, with the keeper's time stamps."""
        path = self.root / "logs" / service / f"{replica}.log"
        older = path.with_name(f"{path.name}.1")
        return (older.read_text(errors="replace") if older.exists() else "") + path.read_text(errors="replace")

    def print_logs(self, lines: int = 40) -> None:
        for path in sorted((self.root / "logs").rglob("*.log")) if self.root.exists() else []:
            print(f"--- {path.relative_to(self.root)}")
            print("\n".join(path.read_text(errors="replace").splitlines()[-lines:]))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise


@contextmanager
def plane(
    folder: Path,
    *,
    files: Mapping[str, str] | None = None,
    command: Sequence[str] = (sys.executable, "-m", "shoal"),
    environment: Mapping[str, str] | None = None,
    owner: int | None = None,
    quiet: bool = False,
) -> Iterator[Plane]:
    """A plane for the app in `folder`, not yet up. `files` are written there first: name -> text. With `owner` (a
    uid), everything belongs to that user, who runs it by `command`. `quiet`: prints nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (files or {}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    runtime = Path(tempfile.mkdtemp(prefix="sh-", dir="/tmp"))  # a socket's path must be short, and tmp_path is not
    if owner is not None:
        for path in (runtime, folder, *folder.rglob("*")):
            os.chown(path, owner, owner)
    made = Plane(folder, runtime, command, environment or {}, quiet=quiet)
    try:
        yield made
    finally:
        try:
            made.note_shared_memory()
            made.shoal("down", check=False)
            if not quiet:
                made.print_logs()
            made.assert_nothing_left()
        finally:
            _kill_what_is_left(made)
            shutil.rmtree(runtime)
            for link in made.root.glob("resources/*/data"):
                if link.is_symlink():  # as root, a database is not in the state folder
                    shutil.rmtree(link.readlink().parents[1], ignore_errors=True)


def _kill_what_is_left(plane: Plane) -> None:
    """So that one failed test does not fail the others. Only what names this plane's own folders."""
    for _ in range(3):  # a keeper that is killed last has started something since
        for pid in mentioning(plane.root, plane.run):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
            until(partial(_ended, pid), f"the end of {pid}", within_s=10)


def _ended(pid: int) -> bool:
    return not alive(pid)


def _shared_memory_of(pid: int) -> set[int]:
    """Inodes below /dev/shm."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return set()
    return {int(line.split()[4]) for line in lines if "/dev/shm/" in line}
