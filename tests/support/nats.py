"""The real nats-server with JetStream, in a folder and on a port of its own. It may be killed at any time."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shoal.engines.local.resources import programs
from tests.support.port import free_port
from tests.support.processes import until


class Nats:
    """`folder`: holds its configuration, its data and its log."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.monitoring = free_port()
        self.url = f"nats://shoal:secret@127.0.0.1:{self.port}"
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "nats.conf").write_text(
            f"listen: 127.0.0.1:{self.port}\n"
            f"http: 127.0.0.1:{self.monitoring}\n"
            # As Shoal runs it: what it confirmed is on the disk.
            f'jetstream {{ store_dir: "{folder / "data"}", sync_interval: always }}\n'
            "authorization { users: [{user: shoal, password: secret}] }\n"
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once it answers."""
        with (self.folder / "log").open("ab") as log:
            line = [str(programs.nats_server()), "-c", str(self.folder / "nats.conf")]
            self._process = subprocess.Popen(line, stdout=log, stderr=log, cwd="/")
        until(self._answers, f"nats-server, which says:\n{(self.folder / 'log').read_text()}")

    def kill(self) -> None:
        """With SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signum)
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self.folder / "log").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False


@contextlib.contextmanager
def nats() -> Iterator[Nats]:
    """One that runs, and ends with the block."""
    with tempfile.TemporaryDirectory(prefix="shoal-nats-", dir="/tmp") as folder:
        server = Nats(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()
