"""Reads how far events are behind: from NATS' monitoring port, and from the outbox in each service's database.

Every question is asked as the service itself would, as its own role: what a superuser looks at may be a view, whose
functions would run as the superuser.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from shoal.engines.local.resources import postgres, programs, servers
from shoal.engines.local.resources.kept import Resources
from shoal.errors import ShoalError
from shoal.model import secrets
from shoal.model.app import App, Service
from shoal.model.lag import InboxLag, Lag, OutboxLag
from shoal.model.resources import Database, Keeping, Kind, Resource

READ_S = 1.0
AT_ONCE = 4
"""So many databases are asked at a time."""
EVENTS, DEAD = "SHOAL_EVENTS", "SHOAL_DEAD"
"""The streams of `shoal.sdk`, in which an inbox has a consumer each, of its own name."""
_ANSWER_MAX = 16 << 20
_SQL = """\
SET statement_timeout = 1000;
SELECT to_regclass('shoal_outbox') IS NOT NULL AS there \\gset
\\if :there
SELECT count(*), (SELECT created_at FROM shoal_outbox ORDER BY id LIMIT 1) FROM shoal_outbox;
\\endif
"""
_SQLITE_S = 1.0
_T = TypeVar("_T")


class LocalLagReader:
    """Implements `ports.LagReader`. `values`: of the secrets that a service uses; blocks, may raise ShoalError."""

    def __init__(
        self,
        resources: Resources,
        values: Callable[[App, Service], Mapping[str, str]],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._resources, self._values, self._now = resources, values, now

    async def read(self, app: App) -> Lag:
        brokers = [service.name for service in app.services if _is_nats(service)]
        owners = [service for service in app.services if service.database and service.database.owner == service.name]
        if not brokers and not owners:
            return Lag()
        turns, end = asyncio.Semaphore(AT_ONCE), asyncio.get_running_loop().time() + READ_S
        asked = [self._inboxes(name) for name in brokers], [self._outbox(app, service, turns) for service in owners]
        heard, found = await asyncio.gather(
            asyncio.gather(*(_by(end, one) for one in asked[0])), asyncio.gather(*(_by(end, one) for one in asked[1]))
        )
        outboxes = dict(zip((service.name for service in owners), found, strict=True))
        answers = dict(zip(brokers, heard, strict=True))
        return Lag(
            inboxes=_summed([one for told in heard if isinstance(told, list) for one in told]),
            outboxes={name: told for name, told in outboxes.items() if isinstance(told, OutboxLag)},
            silent_brokers={name: told for name, told in answers.items() if isinstance(told, str)},
            silent_databases={name: told for name, told in outboxes.items() if isinstance(told, str)},
        )

    async def _inboxes(self, broker: str) -> list[InboxLag]:
        port = await asyncio.to_thread(self._resources.monitoring, broker)
        return [] if port is None else inboxes(await _asked(port, "/jsz?streams=1&consumers=1"))

    async def _outbox(self, app: App, service: Service, turns: asyncio.Semaphore) -> OutboxLag | None:
        database = service.database
        assert database is not None
        async with turns:
            if database.keeping is Keeping.SQLITE:
                row = await asyncio.to_thread(_of_sqlite, self._resources.sqlite_file(service.name))
            else:
                row = await self._of_postgres(app, service, database)
        if row is None:
            return None
        count, oldest = row
        return OutboxLag(pending=count, oldest_s=max(0.0, self._now() - oldest) if count else 0.0)

    async def _of_postgres(self, app: App, service: Service, database: Database) -> tuple[int, float] | None:
        def known() -> dict[str, str] | None:
            external = database.use is not None and database.use.url
            values = self._values(app, service) if external else {}
            return self._resources.reached(database, lambda text: secrets.fill(text, values))

        variables = await asyncio.to_thread(known)
        if variables is None:
            return None
        answer = (await postgres.ask(programs.postgres_folder(), variables, _SQL)).strip()
        if not answer:
            return None
        count, _, oldest = answer.partition("|")
        return int(count), float(oldest or 0)


def inboxes(answer: bytes) -> list[InboxLag]:
    """From what NATS says at `/jsz`. ValueError: it is not understood."""
    behind: dict[str, int] = {}
    dead: dict[str, int] = {}
    try:
        for account in json.loads(answer).get("account_details") or ():
            for stream in account.get("stream_detail") or ():
                counts = {EVENTS: behind, DEAD: dead}.get(stream["name"])
                for consumer in (stream.get("consumer_detail") or ()) if counts is not None else ():
                    assert counts is not None
                    counts[consumer["name"]] = counts.get(consumer["name"], 0) + _left(consumer)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError("says what is not understood") from error
    names = sorted(behind.keys() | dead.keys())
    return [InboxLag(consumer=name, behind=behind.get(name, 0), dead_letters=dead.get(name, 0)) for name in names]


def _left(consumer: Mapping[str, Any]) -> int:
    """What it has not acknowledged: not sent yet, and sent."""
    return int(consumer["num_pending"]) + int(consumer["num_ack_pending"])


def _summed(found: list[InboxLag]) -> tuple[InboxLag, ...]:
    """One for each name, should it be at several brokers."""
    by_name: dict[str, InboxLag] = {}
    for one in found:
        other = by_name.get(one.consumer, InboxLag(consumer=one.consumer, behind=0, dead_letters=0))
        by_name[one.consumer] = InboxLag(
            consumer=one.consumer,
            behind=one.behind + other.behind,
            dead_letters=one.dead_letters + other.dead_letters,
        )
    return tuple(by_name[name] for name in sorted(by_name))


def _is_nats(service: Service) -> bool:
    return isinstance(service.workload, Resource) and service.workload.kind is Kind.NATS


async def _by(end: float, work: Awaitable[_T]) -> _T | str:
    """Or why there is no answer."""
    try:
        async with asyncio.timeout_at(end):
            return await work
    except TimeoutError:
        return f"no answer in {READ_S:g} s"
    except OSError as error:
        return "does not listen" if isinstance(error, ConnectionRefusedError) else (error.strerror or str(error))
    except (ValueError, sqlite3.Error) as error:
        return str(error)
    except ShoalError as error:
        # psql: the reason, without the server's address before it and the advice below.
        return " ".join(error.detail.partition("\n")[0].rpartition(" failed: ")[2].split()) or error.message


async def _asked(port: int, path: str) -> bytes:
    """The body. HTTP/1.0: it ends with the connection. OSError; ValueError: no success, or no end."""
    reader, writer = await asyncio.open_connection(servers.HOST, port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nhost: {servers.HOST}\r\n\r\n".encode())
        whole = b""
        while chunk := await reader.read(1 << 16):
            whole += chunk
            if len(whole) > _ANSWER_MAX:
                raise ValueError(f"says more than {_ANSWER_MAX >> 20} MiB")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    head, _, body = whole.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        raise ValueError(f"answers {status[0].decode(errors='replace') if status else 'nothing'}")
    return body


def _of_sqlite(file: Path) -> tuple[int, float] | None:
    """How many, and when the oldest was written; None: there is no outbox. Blocks, for two seconds at the most.
    sqlite3.Error."""
    if not file.exists():
        return None
    until = time.monotonic() + _SQLITE_S
    with contextlib.closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=_SQLITE_S)) as opened:
        opened.set_progress_handler(lambda: time.monotonic() > until, 100_000)
        if (
            opened.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'shoal_outbox'").fetchone()
            is None
        ):
            return None
        oldest = "(SELECT created_at FROM shoal_outbox ORDER BY id LIMIT 1)"
        count, written_at = opened.execute(f"SELECT count(*), {oldest} FROM shoal_outbox").fetchone()
        return int(count), float(written_at or 0)
