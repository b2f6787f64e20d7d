"""One HTTP question over a new connection, in as few steps as the system allows.

A kept connection would be cheaper and wrong: a server of one thread would wait on it for ever, and one that accepts
nobody any more would go on answering it. Measured against asyncio's streams, by turns
(`bench/probe_kinds.py`): 0.61 to 0.84 of the CPU, probing and all.
"""

from __future__ import annotations

import asyncio
import socket
from functools import lru_cache

from shoal.model.replica import Address, UnixAddress

HEAD_MAX = 16_384
_PART = 4096


@lru_cache(maxsize=4096)
def request(path: str, host: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: shoal-probe\r\naccept: */*\r\nconnection: close\r\n\r\n"
    ).encode("latin-1", "replace")


async def ask(address: Address, question: bytes) -> bytes:
    """What came back, at least up to the end of the first line, unless it was closed before. OSError, as for any
    connection; BlockingIOError: so many wait to be accepted that no more are let in."""
    loop = asyncio.get_running_loop()
    with socket.socket(_family(address), socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        if isinstance(address, UnixAddress):
            # At once or not at all. Through the loop, a full queue (EAGAIN) would look like a connection.
            connection.connect(address.path)
        else:
            await loop.sock_connect(connection, (address.host, address.port))
        connection.send(question)  # into an empty buffer: it fits
        answer = b""
        while len(answer) < HEAD_MAX:
            part = await loop.sock_recv(connection, _PART)
            answer += part
            if not part or b"\n" in part:
                break
    return answer


def _family(address: Address) -> socket.AddressFamily:
    if isinstance(address, UnixAddress):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET
