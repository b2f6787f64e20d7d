"""The real PostgreSQL, made and started as Shoal does it: as root under another user. It may be killed at any time.

Each test asks for a database of its own; a server is made once for a module, for `initdb` takes a second.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shoal.engines.local.resources import postgres as engine
from shoal.engines.local.resources import programs
from shoal.engines.local.resources.place import Place
from shoal.errors import EngineError
from tests.support.port import free_port
from tests.support.processes import until
from tests.support.user import NOBODY

# Nobody pulls the plug of a test: what a killed server wrote is still in the kernel's hands.
_FAST = ("-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=60")


class Postgres:
    """`folder`: empty, and open to all: its data is in there."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        as_root = os.geteuid() == 0
        self._place = Place(own=folder / "own", data=folder / "below" / "data", uid=NOBODY if as_root else None)
        self._programs = programs.postgres_folder()
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._names = (f"test{number}" for number in itertools.count(1))
        self._place.own.mkdir()
        self._place.data.parent.mkdir()
        if as_root:
            folder.chmod(0o755)
            os.chown(self._place.data.parent, NOBODY, NOBODY)
        engine.make_folder(self._programs, self._place)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def database(self, name: str = "") -> str:
        """A new one's `postgresql://role:password@127.0.0.1:port/database`; its role owns it and sees no other."""
        name = name or next(self._names)
        engine.ensure(self._programs, self._place, self.port, name)
        return f"postgresql://{name}:{self._place.password(name)}@127.0.0.1:{self.port}/{name}"

    def sql(self, script: str) -> str:
        """As the superuser, in the database `postgres`."""
        return engine.sql(self._programs, self._place, self.port, script)

    def start(self) -> None:
        """Returns once it answers."""
        until(self._try, "PostgreSQL", within_s=60)

    def kill(self) -> None:
        """SIGKILL to its main process; the others notice and end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGINT)

    def _try(self) -> bool:
        # Just after a kill, the processes of the last one may still hold its shared memory: then it ends at once.
        if self._process is None or self._process.poll() is not None:
            line = [*engine.argv(self._programs, self._place, self.port), *_FAST]
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(line, stdout=log, stderr=log, cwd="/")
        try:
            return self.sql("SELECT 1").strip() == "1"
        except EngineError:
            return False

    def _end(self, signum: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signum)
            self._process.wait(60)
            self._process = None


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """One that runs, and ends with the block."""
    with tempfile.TemporaryDirectory(prefix="shoal-postgres-", dir="/tmp") as folder:
        server = Postgres(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
