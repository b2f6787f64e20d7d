"""A replica in the test's own process: says what it received, and misbehaves when asked to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shoal.mesh.endpoints import Endpoint
from shoal.model.replica import Address, TcpAddress, UnixAddress


@dataclass
class Replica:
    """Answers 200 with what it got, as JSON; `/status/503` that status; `/hang` nothing; `/sse` two events, the second
    when `release` is set; `/drop` closes the connection; `/slow/x` waits 50 ms
    before it answers."""

    id: str
    address: Address
    requests: list[tuple[str, str]] = field(default_factory=list)
    """(method, path)"""
    release: asyncio.Event = field(default_factory=asyncio.Event)
    fail_next: int = 0
    """How many requests get 503 from now on."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(replica=self.id, address=self.address)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # cancelled only by our own end
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append((method, path))
        if headers.get("upgrade", "").lower() == "websocket":
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
            while data := await reader.read(1024):
                writer.write(data)
                await writer.drain()
            return False
        if path == "/drop":
            return False
        if path == "/hang":
            await self.release.wait()
        if path == "/sse":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
            await writer.drain()
            await self.release.wait()
            writer.write(b"data: 2\n\n")
            await writer.drain()
            return False
        if path.startswith("/slow/"):
            await asyncio.sleep(0.05)
        status = 200
        if path.startswith("/status/"):
            status = int(path.removeprefix("/status/"))
        if self.fail_next:
            self.fail_next -= 1
            status = 503
        said = {"replica": self.id, "method": method, "path": path, "headers": headers, "body": body.decode()}
        answer = json.dumps(said).encode()
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(answer)}\r\nserver: tiny\r\n\r\n".encode() + answer)
        await writer.drain()
        return True

    async def _end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def replica(name: str, socket: Path | None = None) -> AsyncIterator[Replica]:
    """Listens on a Unix socket, or on a port of 127.0.0.1 that the kernel chooses."""
    made = Replica(name, UnixAddress(path=str(socket)) if socket else TcpAddress(host="127.0.0.1", port=0))
    if socket:
        server = await asyncio.start_unix_server(made._serve, str(socket))
    else:
        server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
        made.address = TcpAddress(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        server.close()
        await made._end()
        if socket:
            socket.unlink(missing_ok=True)  # noqa: ASYNC240  a socket's name, in a test
