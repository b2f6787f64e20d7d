"""Runs migrations: once for each revision that succeeded, never two of a service at once, through every death of the
daemon. The process is the keeper's, so a daemon that comes back finds it running, or its exit code."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shoal.engines.local.keeper_client import KeeperError
from shoal.engines.local.keeper_link import KeeperLink, Listing
from shoal.engines.local.migrations import locked
from shoal.engines.local.migrations.records import Records
from shoal.engines.local.tails import tail
from shoal.engines.local.uv import Progress
from shoal.errors import EngineError
from shoal.model.migration import FAILED, SUCCEEDED, Migration, MigrationRun, words
from shoal.model.world import Revision
from shoal.ports import Preparation

_PREFIX = "migrate."
TAIL_LINES = 20
_STOP_S_MAX = locked.GRACE_S + 5


class Migrations:
    def __init__(self, link: KeeperLink, records: Records, *, now: Callable[[], float]) -> None:
        self._link, self._records, self._now = link, records, now
        self._running: dict[str, asyncio.Future[int | None]] = {}
        self._ended: dict[str, int | None] = {}
        """Exit codes that nobody has asked for yet."""
        self._since: dict[str, float] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    def take_over(self, listing: Listing) -> None:
        """What a keeper that was found runs, and what ended there."""
        rows = {row["name"]: row for row in listing if row["name"].startswith(_PREFIX)}
        for name, row in rows.items():
            self._since[name] = (row.get("tag") or {}).get("started_at", self._now())
            if row["running"]:
                self._running.setdefault(name, asyncio.get_running_loop().create_future())
            else:
                self._end(name, row["exit_code"])
        for name in [name for name in self._running if name not in rows]:
            self._end(name, None)

    def heard(self, event: dict[str, Any]) -> bool:
        """Takes an event of the keeper. Whether it was about a migration."""
        name = event["name"]
        if not name.startswith(_PREFIX):
            return False
        if event["event"] == "exited":
            self._end(name, event["exit_code"])
        return True

    def _end(self, name: str, code: int | None) -> None:
        waiting = self._running.pop(name, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(code)
        self._ended[name] = code

    async def ensure(
        self,
        preparation: Preparation,
        request: Callable[[], dict[str, object]],
        identity: Callable[[], str],
        log: Path,
        progress: Progress,
    ) -> None:
        """The revision's migration has succeeded afterwards; at once where it has before. `request`: what the keeper is
        asked for. `identity`: gives `MigrationRun.database`. EngineError: it failed; its last lines are `detail`."""
        revision = preparation.revision
        migration = revision.service.migrate
        if migration is None:
            return
        service = revision.service.name
        async with self._turns.setdefault(service, asyncio.Lock()):
            if await asyncio.to_thread(lambda: self._records.succeeded(service, revision.number, identity())):
                return
            name = f"{_PREFIX}{service}.{revision.number}"
            await self._others_end(service, name)
            result = log.with_suffix(".exit")
            code = await self._ended_with(name, migration, request, progress, result)
            if code is None:
                code = await asyncio.to_thread(_left, result)
            # After it: SQLite's file is made by it.
            await self._told(revision, migration, await asyncio.to_thread(identity), name, code, log)

    async def _others_end(self, service: str, name: str) -> None:
        """Of a revision that a newer deploy has overtaken: it may not run beside this one."""
        for other in [n for n in self._running if n.rpartition(".")[0] == f"{_PREFIX}{service}" and n != name]:
            await asyncio.shield(self._running[other])

    async def _ended_with(
        self,
        name: str,
        migration: Migration,
        request: Callable[[], dict[str, object]],
        progress: Progress,
        result: Path,
    ) -> int | None:
        """None: nobody saw it; then `result` may know."""
        if name not in self._running and name not in self._ended:
            if await asyncio.to_thread(result.exists):
                return None  # it ended while the app went down, and was not written down
            self._since[name] = self._now()
            self._running[name] = asyncio.get_running_loop().create_future()
            try:
                asked = await asyncio.to_thread(request)
                await self._link.call("spawn", name=name, **asked)
            except KeeperError as error:
                if error.reason != "exists":
                    self._running.pop(name, None)
                    raise
            except BaseException:
                self._running.pop(name, None)
                raise
        if name in self._running:
            await progress(f"migrates: {words(migration.command)}")
            await asyncio.shield(self._running[name])
        return self._ended[name]

    async def stop(self) -> None:
        """The app goes down: what runs is told to end, and waited for."""
        for name, running in list(self._running.items()):
            try:
                await self._link.call("signal", name=name, signal=int(signal.SIGTERM), group=False)
                await asyncio.wait_for(asyncio.shield(running), timeout=_STOP_S_MAX)
            except (KeeperError, TimeoutError):
                pass  # it ended this moment; or the keeper waits for it

    async def _told(
        self, revision: Revision, migration: Migration, database: str, name: str, code: int | None, log: Path
    ) -> None:
        """Written down before it is forgotten by the keeper: else it would run twice."""
        service, command = revision.service.name, words(migration.command)
        reason = _reason(code, migration)
        record = MigrationRun(
            revision=revision.number,
            command=command,
            database=database,
            started_at=self._since.pop(name, self._now()),
            ended_at=self._now(),
            outcome=FAILED if reason else SUCCEEDED,
            reason=reason,
            log=str(log),
        )
        await asyncio.to_thread(self._records.add, service, record)
        self._ended.pop(name, None)
        log.with_suffix(".exit").unlink(missing_ok=True)
        try:
            await self._link.call("forget", name=name)
        except KeeperError:
            pass  # it knows nothing of it either
        if reason:
            last = await asyncio.to_thread(tail, log, since=record.started_at, lines=TAIL_LINES)
            raise EngineError(
                f"the migration of {service} failed: {command}: {reason}",
                way_out=f"see all of it: shoal logs {service} --migrate",
                detail="\n".join(last),
            )


def _reason(code: int | None, migration: Migration) -> str:
    if code == 0:
        return ""
    if code is None:
        return "nobody saw how it ended"
    if code == locked.TIMED_OUT:
        return f"did not end within {migration.timeout_s:g} s"
    if code == locked.UNLOCKED:
        return "the lock of its database was not to be had"
    if code < 0:
        return f"killed by signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _left(result: Path) -> int | None:
    """The exit code that `locked` wrote down. Blocks."""
    try:
        return int(result.read_text("ascii"))
    except (OSError, ValueError):
        return None
