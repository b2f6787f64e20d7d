"""Serves the API on a Unix socket that only its owner can open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from shoal.errors import StoreError

CONNECTIONS_MAX = 500
GRACE_S = 2.0
"""How long answers may take to end once the server ends; then their connections are cut."""

TICK_S = 0.02


async def serve(app: Starlette, socket_path: Path, *, ready: asyncio.Event | None = None) -> None:
    """Serves until it is cancelled: then it takes no more, ends the streams, lets answers finish for 2 s, and removes
    the socket. `ready` is set once it listens. The folder must be there (0700). Raises StoreError when it cannot
    listen."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        limit_concurrency=CONNECTIONS_MAX,
    )
    with _listening(socket_path) as listener:
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="api")
        if ready is not None:
            ready.set()
        try:
            await asyncio.shield(task)
        finally:
            app.state.plane.closing.set()
            server.stop.set()
            await task


class _Server(uvicorn.Server):
    """Without signal handlers, which are the daemon's; without waking up ten times a second; ends in bounded time."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    async def main_loop(self) -> None:
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's own cancels what is late, and then waits for a reader that does not read.
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if not await self._ended(GRACE_S):
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            await self._ended(GRACE_S)

    async def _ended(self, timeout_s: float) -> bool:
        """Waits until all that was answered is sent, and all handlers are through."""
        for _ in range(round(timeout_s / TICK_S)):
            if not self.server_state.connections and not self.server_state.tasks:
                return True
            await asyncio.sleep(TICK_S)
        return False

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    # Made under another name, closed to others before anybody can connect, then put in place: whoever looks sees the
    # old socket or the new one, and a dead daemon's is replaced without a moment of none.
    fresh = path.with_name(path.name + ".new")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        try:
            fresh.unlink(missing_ok=True)
            listener.bind(str(fresh))
            fresh.chmod(0o600)
            listener.listen(128)
            fresh.rename(path)
        except OSError as error:
            raise StoreError(
                f"cannot listen on {path}: {error.strerror or error}",
                way_out="check that its folder exists, is yours, and has a path of less than 100 bytes",
            ) from error
        mine = path.stat().st_ino
        try:
            yield listener
        finally:
            try:
                if path.stat().st_ino == mine:
                    path.unlink()
            except OSError:
                pass  # removed by others
    finally:
        listener.close()
