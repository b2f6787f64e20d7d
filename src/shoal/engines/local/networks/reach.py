"""Connections to a replica in a network of its own, from the daemon, which is in none."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from shoal.engines.local.networks.sockets import socket_of
from shoal.errors import EngineError
from shoal.model.replica import TcpAddress, UnixAddress
from shoal.planner.environment import LOOPBACK

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    holder: Path
    """The socket of the process that gives out sockets."""
    pid: int
    """Of the replica."""

    async def connect(self, address: TcpAddress, *, limit: int) -> Streams:
        """ConnectionError and other OSErrors, as for any connection."""
        try:
            connection = await socket_of(self.holder, pid=self.pid if address.host == LOOPBACK else None)
        except EngineError as error:
            raise ConnectionError(error.message) from error
        try:
            await asyncio.get_running_loop().sock_connect(connection, (address.host, address.port))
            return await asyncio.open_connection(sock=connection, limit=limit)
        except BaseException:
            connection.close()
            raise

    @contextlib.asynccontextmanager
    async def bridged(self, address: TcpAddress, *, limit: int) -> AsyncIterator[UnixAddress]:
        """A Unix socket that leads there, for clients that connect themselves. OSError: it does not listen."""
        reader, writer = await self.connect(address, limit=limit)
        pumps: list[asyncio.Task[None]] = []

        async def accept(near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
            pumps.append(asyncio.create_task(_pump(near_reader, writer)))
            pumps.append(asyncio.create_task(_pump(reader, near_writer)))

        with tempfile.TemporaryDirectory(prefix="shoal-") as folder:
            path = f"{folder}/s"
            server = await asyncio.start_unix_server(accept, path, limit=limit)
            try:
                yield UnixAddress(path=path)
            finally:
                server.close()
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(16_384):
            writer.write(part)
            await writer.drain()
    finally:
        writer.close()
