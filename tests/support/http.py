"""HTTP/1.1 over asyncio streams, as little as the prober needs, and with exact words for what went wrong."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

LIMIT = 1 << 20
"""Bytes of a body, at most."""


class LostError(Exception):
    """No whole answer: which step failed, and how."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    """Names in lower case; the last of equal names."""
    body: bytes


class Connection:
    """Connects when first used, and again after it was closed from either side."""

    def __init__(self, host: str, port: int, *, timeout_s: float) -> None:
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def usable(self) -> bool:
        """Whether the next request may go over the connection that is there. A FIN that came while it was idle is
        seen here, as any careful client would."""
        return self._streams is not None and not self._streams[0].at_eof() and not self._streams[1].is_closing()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def exchange(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        """One request and its answer. LostError: there was none, or not a whole one; the connection is closed then."""
        if not self.usable:
            self.close()
        step = "connecting"
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(self._host, self._port)
                reader, writer = self._streams
                step = "sending"
                writer.write(self._head(method, path, body, headers) + body)
                await writer.drain()
                step = "waiting for the answer"
                answer = await _read_answer(reader)
        except TimeoutError:
            self.close()
            raise LostError(f"timeout: {self._timeout_s} s {step}") from None
        except asyncio.IncompleteReadError as error:
            self.close()
            what = f"after {len(error.partial)} bytes of a part" if error.partial else "before it"
            raise LostError(f"closed: {step}, {what}") from error
        except ConnectionError as error:
            self.close()
            raise LostError(f"{'connect' if step == 'connecting' else 'reset'}: {step}: {error!r}") from error
        except (OSError, ValueError, IndexError, asyncio.LimitOverrunError) as error:
            self.close()
            raise LostError(f"{'connect' if step == 'connecting' else 'broken'}: {step}: {error!r}") from error
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        return answer

    def _head(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if method != "GET":
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode()


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ", 2)[1])
    headers = {}
    for line in head[1:-2]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if status in (204, 304):
        return Answer(status, headers, b"")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Answer(status, headers, await _read_chunks(reader))
    length = int(headers["content-length"]) if "content-length" in headers else -1
    if length > LIMIT:
        raise ValueError(f"a body of {length} bytes")
    return Answer(status, headers, await reader.readexactly(length) if length >= 0 else await reader.read(LIMIT))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        chunk = await reader.readexactly(size + 2)
        if size == 0:
            return body
        body += chunk[:-2]
        if len(body) > LIMIT:
            raise ValueError("a body without end")
