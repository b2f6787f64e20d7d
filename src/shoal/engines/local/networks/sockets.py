"""Sockets of the networks that we are not in, from the process that holds the mesh network (`keeper.holder`)."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from shoal.errors import EngineError

ANSWER_S_MAX = 3.0


async def socket_of(holder: Path, *, pid: int | None = None) -> socket.socket:
    """A TCP socket, not connected and not blocking, of the mesh network, or of the network of that process.

    EngineError: the mesh network is gone, or the process.
    """
    return await asyncio.to_thread(_socket_of, holder, pid)


def _socket_of(holder: Path, pid: int | None) -> socket.socket:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S_MAX)
            connection.connect(str(holder))
            connection.sendall(b"mesh\n" if pid is None else b"%d\n" % pid)
            words, descriptors, _, _ = socket.recv_fds(connection, 1000, 1)
    except OSError as error:
        raise EngineError(f"the mesh network does not answer on {holder}: {error}") from error
    if not descriptors:
        raise EngineError(f"no socket of that network is to be had: {words.decode('utf-8', 'replace').strip()}")
    made = socket.socket(fileno=descriptors[0])
    made.setblocking(False)
    return made
