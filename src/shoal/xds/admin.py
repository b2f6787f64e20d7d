"""Asking Envoy itself, over its admin socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

from shoal.errors import EngineError

ANSWER_BYTES_MAX = 64 * 1024 * 1024


async def admin_get(path: str, socket: Path, *, timeout_s: float = 5.0) -> str:
    """The body of `GET path`. EngineError: Envoy is not there, does not answer in time, or answers an error."""
    return await _ask("GET", path, socket, timeout_s)


async def admin_post(path: str, socket: Path, *, timeout_s: float = 5.0) -> str:
    """The same with POST, which Envoy wants for all that changes something."""
    return await _ask("POST", path, socket, timeout_s)


async def requests_under_way(socket: Path) -> dict[str, int]:
    """service -> requests that Envoy has sent to its replicas and that are not answered yet."""
    text = await admin_get("/stats?usedonly&filter=%5Ecluster%5C..%2A%5C.upstream_rq_active%24", socket)
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(": ")
        service = name.removeprefix("cluster.").removesuffix(".upstream_rq_active")
        if value.isdigit():
            found[service] = int(value)
    return found


async def _ask(method: str, path: str, socket: Path, timeout_s: float) -> str:
    try:
        async with asyncio.timeout(timeout_s):
            head, body = await _exchange(method, path, socket)
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        reason = str(error) or type(error).__name__
        raise EngineError(f"Envoy does not answer {method} {path}: {reason}") from error
    status = head.split(b" ", 2)[1] if head.count(b" ") else b"?"
    if status != b"200":
        raise EngineError(
            f"Envoy answers {method} {path} with {status.decode()}: {body[:200].decode(errors='replace')}"
        )
    return body.decode(errors="replace")


async def _exchange(method: str, path: str, socket: Path) -> tuple[bytes, bytes]:
    """HTTP/1.0: the answer ends with the connection."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode()
        )
        await writer.drain()
        whole = await reader.read(ANSWER_BYTES_MAX)
        while chunk := await reader.read(ANSWER_BYTES_MAX):
            whole += chunk
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = whole.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = _unchunked(body)
    return head, body


def _unchunked(body: bytes) -> bytes:
    parts = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            break
        parts.append(rest[:length])
        body = rest[length + 2 :]
    return b"".join(parts)
