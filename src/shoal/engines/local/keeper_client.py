"""The keeper, as the daemon and the tests speak to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from shoal.errors import EngineError, NotRunningError

CALL_S_MAX = 20.0
"""A call that takes longer meets a keeper that is stopped or stuck."""
EVENTS_MAX = 10_000
"""Unread events; with more the connection is closed, and whoever reads attaches anew."""
LINE_MAX = 64 << 20


class KeeperError(EngineError):
    """The keeper's refusal, in its words. `reason`: its code (`exists`, `unknown`, `exec-failed`,
    `namespace-failed`, `no-network`, `shutting-down`, `bad-request`, `internal`)."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class KeeperClient:
    """One connection. Make it with `connect`; `close` it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._last_id = 0
        self._closed = ""
        """Why there is no connection any more."""
        self._reading = asyncio.create_task(self._read(reader), name="keeper-client")

    @classmethod
    async def connect(cls, socket_path: Path) -> KeeperClient:
        """NotRunningError: no keeper listens there."""
        try:
            async with asyncio.timeout(CALL_S_MAX):
                reader, writer = await asyncio.open_unix_connection(socket_path, limit=LINE_MAX)
        except (OSError, TimeoutError) as error:
            raise NotRunningError(
                f"no keeper answers on {socket_path}: {error}", way_out="start it: shoal up"
            ) from error
        return cls(reader, writer)

    async def call(self, op: str, **fields: object) -> dict[str, Any]:
        """The keeper's answer. KeeperError: it refused, in its words; EngineError: it is gone, or does not answer."""
        if self._closed:
            raise EngineError(f"the keeper is gone: {self._closed}")
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(CALL_S_MAX):
                self._writer.write(json.dumps({"id": number, "op": op, **fields}).encode() + b"\n")
                await self._writer.drain()
                return await answer
        except TimeoutError as error:
            raise EngineError(f"the keeper did not answer '{op}' within {CALL_S_MAX:g} s") from error
        except OSError as error:
            raise EngineError(f"the keeper is gone: {error}") from error
        finally:
            self._waiting.pop(number, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, also when the write failed first

    async def attach(self) -> list[dict[str, Any]]:
        """All processes, as in `list`; from now on `events()` has what happens."""
        answer = await self.call("attach")
        processes: list[dict[str, Any]] = answer["processes"]
        return processes

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Ends when the connection does. For one reader."""
        while (event := await self._events.get()) is not None:
            yield event
        self._events.put_nowait(None)

    async def close(self) -> None:
        """Events end, calls fail. Twice is as good as once."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._end("the connection was closed")
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass

    async def _read(self, reader: asyncio.StreamReader) -> None:
        why = "it closed the connection"
        try:
            while line := await reader.readline():
                if not line.endswith(b"\n"):
                    break
                self._take(json.loads(line))
                if self._events.qsize() > EVENTS_MAX:
                    why = f"{EVENTS_MAX} events were left unread"
                    break
        except (OSError, ValueError) as error:
            why = str(error)
        finally:
            self._end(why)
            self._writer.close()

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self._events.put_nowait(message)
            return
        answer = self._waiting.get(message.get("id") or 0)
        if answer is None or answer.done():
            return
        if "ok" in message:
            answer.set_result(message["ok"])
        else:
            answer.set_exception(KeeperError(message["error"]["message"], reason=message["error"]["code"]))

    def _end(self, why: str) -> None:
        if self._closed:
            return
        self._closed = why
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(EngineError(f"the keeper is gone: {why}"))
        self._events.put_nowait(None)
