"""The connection to the keeper that is made again when it breaks, with a new keeper if need be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from shoal.engines.local.keeper_client import KeeperClient, KeeperError
from shoal.errors import EngineError, ShoalError

RETRY_S_FIRST = 0.05
RETRY_S_MAX = 2.0
RECONNECT_S_MAX = 30.0
"""How long a call waits for a keeper that is being replaced."""

Listing = list[dict[str, Any]]


class KeeperLink:
    """`open` it, then `run` it in a task. `restart` starts a keeper unless one answers.

    `on_event` gets each event of the keeper, in order; `on_lost` why the connection ended; `on_found` what runs
    according to the new keeper, before its first event and before any call; `on_up` comes when it may be called.
    """

    def __init__(
        self,
        socket: Path,
        restart: Callable[[], Awaitable[None]],
        *,
        on_event: Callable[[dict[str, Any]], Awaitable[None]],
        on_lost: Callable[[str], Awaitable[None]],
        on_found: Callable[[Listing], Awaitable[None]],
        on_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._socket = socket
        self._restart = restart
        self._on_event, self._on_lost, self._on_found, self._on_up = on_event, on_lost, on_found, on_up
        self._client: KeeperClient | None = None
        self._up = asyncio.Event()

    async def open(self) -> Listing:
        """The first connection; what runs. EngineError or NotRunningError."""
        return await self._connect()

    async def run(self) -> None:
        """Passes events on, for ever; replaces what breaks."""
        while True:
            client = self._client
            assert client is not None
            async for event in client.events():
                await self._on_event(event)
            self._up.clear()
            await client.close()
            await self._on_lost("the keeper's socket closed")
            await self._on_found(await self._reconnect())
            self._up.set()
            await self._on_up()

    async def call(self, op: str, **fields: object) -> dict[str, Any]:
        """The keeper's answer. A broken connection is waited for, and the call made once more: so it must be one that
        can be made twice. KeeperError: refused; EngineError: no keeper."""
        for attempt in (1, 2):
            await self._ready()
            assert self._client is not None
            try:
                return await self._client.call(op, **fields)
            except KeeperError:
                raise
            except EngineError:
                if attempt == 2 or not await self._breaks():
                    raise
        raise AssertionError("unreachable")

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _ready(self) -> None:
        try:
            async with asyncio.timeout(RECONNECT_S_MAX):
                await self._up.wait()
        except TimeoutError:
            raise EngineError(
                f"there is no keeper since {RECONNECT_S_MAX:g} s", way_out="look into the log: shoal logs keeper"
            ) from None

    async def _breaks(self) -> bool:
        """Whether the connection is (about to be found) broken; False: the keeper is there and does not answer."""
        for _ in range(20):
            if not self._up.is_set():
                return True
            await asyncio.sleep(0.01)
        return False

    async def _reconnect(self) -> Listing:
        pause_s = RETRY_S_FIRST
        while True:
            try:
                await self._restart()
                return await self._connect()
            except (ShoalError, OSError):
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_S_MAX)

    async def _connect(self) -> Listing:
        client = await KeeperClient.connect(self._socket)
        try:
            listing = await client.attach()
        except BaseException:
            await client.close()
            raise
        first = self._client is None
        self._client = client
        if first:
            self._up.set()
        return listing
