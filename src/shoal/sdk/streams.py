"""NATS JetStream, as outbox and inbox use it: two streams, and a connection that is made anew when it breaks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import nats
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StreamConfig
from nats.js.errors import APIError, NotFoundError

EVENTS = "SHOAL_EVENTS"
DEAD = "SHOAL_DEAD"
ANSWER_S = 2.0
"""How long NATS may take to answer before the connection is given up."""
_DAY_S = 24 * 3600
_NAME_IN_USE = 10058
_AGAIN_S = (0.1, 0.25, 0.5, 1.0, 2.0)
_STREAMS = {
    # No size of their own: NATS would reserve that on the disk. A full store takes nothing more, and what is
    # not in it stays in the outbox; dropping the oldest would lose events.
    EVENTS: StreamConfig(
        name=EVENTS, subjects=["events.>"], max_age=7 * _DAY_S, discard=DiscardPolicy.NEW, duplicate_window=600
    ),
    DEAD: StreamConfig(
        name=DEAD, subjects=["dead.>"], retention=RetentionPolicy.WORK_QUEUE, discard=DiscardPolicy.NEW
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Streams:
    client: Client
    js: JetStreamContext


def nats_url(written: str | None) -> str:
    return written or os.environ.get("NATS_URL", "")


class Background:
    """A task that `_start` starts, and the end of an `async with` block ends."""

    _task: asyncio.Task[None] | None = None

    def _start(self, work: Callable[[], Awaitable[None]], log: logging.Logger, what: str) -> None:
        self._task = asyncio.create_task(keep_at(work, log, what), name=what)

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


def subjects(config: ConsumerConfig) -> list[str]:
    """Those that a consumer is sent."""
    return config.filter_subjects or ([config.filter_subject] if config.filter_subject else [])


@asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[Streams]:
    """Both streams are there. Raises what nats-py raises: the caller begins anew, see `keep_at`."""
    client = await nats.connect(
        url,
        name=name,
        allow_reconnect=False,
        connect_timeout=2,
        error_cb=_quiet,
        max_outstanding_pings=2,
        ping_interval=10,
    )
    try:
        js = client.jetstream(timeout=ANSWER_S)
        for stream in _STREAMS.values():
            await _ensure(js, stream)
        yield Streams(client, js)
    finally:
        try:
            # A server that hangs must not hold up the end of a replica.
            await asyncio.wait_for(client.close(), 1.0)
        except (OSError, nats.errors.Error, TimeoutError):
            pass


async def keep_at(work: Callable[[], Awaitable[None]], log: logging.Logger, what: str) -> None:
    """Does it again and again, for ever: a broker or a database that is away comes back. Says so once each time."""
    failures = 0
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await work()
            failures = 0
        except Exception as error:
            if asyncio.get_running_loop().time() - began > 5.0:
                failures = 0
            if failures == 0:
                # Its first line: SQLAlchemy adds the statement, and where to read about it.
                why = str(error).partition("\n")[0]
                log.warning("%s: %s: %s; going on trying", what, type(error).__name__, why)
            await asyncio.sleep(_AGAIN_S[min(failures, len(_AGAIN_S) - 1)])
            failures += 1


async def _ensure(js: JetStreamContext, wanted: StreamConfig) -> None:
    assert wanted.name is not None
    try:
        await js.stream_info(wanted.name)
    except NotFoundError:
        try:
            await js.add_stream(wanted)
        except APIError as error:
            if error.err_code != _NAME_IN_USE:
                raise
            # another replica was first, perhaps of another Shoal


async def _quiet(_: Exception) -> None:
    """Errors reach whoever waits; nats-py would print them too."""
