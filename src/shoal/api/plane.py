"""What the API needs of the daemon, as it sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shoal.model.app import App
from shoal.model.migration import MigrationList
from shoal.model.rollout import CanaryPlan
from shoal.model.status import (
    AppStatus,
    Deployment,
    DryRun,
    ExecContext,
    Explanation,
    JobStatus,
    RevisionDiff,
    RevisionList,
    ServiceStatus,
)
from shoal.ports import JournalEntry, Store


class CommandsLike(Protocol):
    """`control.commands.Commands`. Raises NotFoundError, UsageError, ConflictError, StoreError."""

    async def look_at_lag(self) -> None: ...

    def status(self) -> AppStatus: ...

    def explain(self, service: str) -> Explanation: ...

    def exec_context(self, service: str) -> ExecContext: ...

    async def dry_run(self, app: App) -> DryRun: ...

    def partly(self, app: App, only: Collection[str]) -> App: ...

    async def deploy(self, app: App, *, only: Collection[str] = (), canary: CanaryPlan | None = None) -> Deployment: ...

    async def scale(self, service: str, replicas: int) -> ServiceStatus: ...

    async def restart(self, service: str) -> ServiceStatus: ...

    def revisions(self, service: str) -> RevisionList: ...

    def migrations(self, service: str) -> MigrationList: ...

    async def diff(self, service: str, before: int | None, after: int | None, app: App | None) -> RevisionDiff: ...

    async def rollback(self, service: str, to: int | None, *, migrated: bool = False) -> ServiceStatus: ...

    async def promote(self, service: str) -> ServiceStatus: ...

    async def abort(self, service: str) -> ServiceStatus: ...

    async def run_job(self, job: str) -> JobStatus: ...

    async def replace_proxy(self) -> None: ...

    async def down(self, *, now: bool = False) -> None: ...


class FeedLike(Protocol):
    """`control.journal.Feed`: entries from now on. A listener that is too slow gets EngineError."""

    def subscribe(self) -> AbstractAsyncContextManager[AsyncIterator[JournalEntry]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Handed to every handler."""

    commands: CommandsLike
    store: Store
    feed: FeedLike
    logs: Path
    """The folder of all logs."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server ends: streams end then, by themselves."""
