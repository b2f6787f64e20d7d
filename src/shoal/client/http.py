"""The typed client of the HTTP API. Synchronous, standard library only, quick to import.

Each call makes its own connection, so that a client may be shared by threads and needs no closing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from shoal.client.connection import request
from shoal.client.decode import decode
from shoal.client.failures import cut_off, from_problem
from shoal.client.resume import SeenLines, server_sent
from shoal.errors import NotRunningError
from shoal.model.journal import JournalEntry
from shoal.model.migration import MigrationList
from shoal.model.status import (
    AppStatus,
    Deployment,
    DryRun,
    ExecContext,
    Explanation,
    JobStatus,
    LogLine,
    RevisionDiff,
    RevisionList,
    ServiceStatus,
)

T = TypeVar("T")

TIMEOUT_S = 30.0

STREAM_TIMEOUT_S = 45.0
"""Three of the daemon's keep-alives: a stream that says nothing for so long is dead."""

RECONNECT_S = 10.0
"""How long a followed stream looks for a daemon that went away; its keeper brings it back in a second or two."""

RETRY_S = 0.1

TAIL_MAX = 100_000

JSON = "application/json"
LINES = "application/x-ndjson"
STREAM = "text/event-stream"


class Client:
    """Every method raises NotRunningError when there is nobody to talk to, and the error that the daemon reports."""

    def __init__(self, socket_path: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s

    def status(self) -> AppStatus:
        return decode(AppStatus, self._ask("GET", "/v1/app"))

    def deploy(
        self,
        app_document: Mapping[str, Any],
        *,
        only: Sequence[str] = (),
        canary: Mapping[str, Any] | None = None,
    ) -> Deployment:
        """`app_document`: a valid `model.app.App` as plain JSON (`spec.wire.to_plain`). `only`: the changes of these
        services alone; none named: all. `canary`: a `model.rollout.CanaryPlan` as plain JSON."""
        body = {"app": app_document} | ({"only": list(only)} if only else {})
        body |= {"canary": canary} if canary is not None else {}
        return decode(Deployment, self._ask("POST", "/v1/deploy", body))

    def plan(self, app_document: Mapping[str, Any]) -> DryRun:
        """What `deploy` of this would change; nothing is."""
        return decode(DryRun, self._ask("POST", "/v1/plan", {"app": app_document}))

    def down(self, *, now: bool = False) -> None:
        """Returns once it is on its way; done is when nobody answers any more. `now`: requests under way are not waited
        for, also when it is on its way already."""
        self._ask("POST", "/v1/down", {"now": True} if now else {})

    def replace_proxy(self) -> None:
        """Returns once it is on its way. Raises ConflictError when no Envoy serves, or one takes over already."""
        self._ask("POST", "/v1/proxy/replace", {})

    def explain(self, name: str) -> Explanation:
        return decode(Explanation, self._ask("GET", _service(name)))

    def scale(self, name: str, replicas: int) -> ServiceStatus:
        return decode(ServiceStatus, self._ask("POST", _service(name, "/scale"), {"replicas": replicas}))

    def restart(self, name: str) -> ServiceStatus:
        return decode(ServiceStatus, self._ask("POST", _service(name, "/restart"), {}))

    def migrations(self, name: str) -> MigrationList:
        return decode(MigrationList, self._ask("GET", _service(name, "/migrations")))

    def revisions(self, name: str) -> RevisionList:
        return decode(RevisionList, self._ask("GET", _service(name, "/revisions")))

    def diff(
        self,
        name: str,
        before: int | None = None,
        after: int | None = None,
        *,
        app_document: Mapping[str, Any] | None = None,
    ) -> RevisionDiff:
        """None is the revision that is wanted now. `app_document`: what `after` is instead, with the working tree."""
        body = {"before": before, "after": after, "app": app_document}
        return decode(RevisionDiff, self._ask("POST", _service(name, "/diff"), body))

    def rollback(self, name: str, to: int | None = None, *, migrated: bool = False) -> ServiceStatus:
        """`to`: None is the last one that was completely rolled out before. `migrated`: also where the schema has
        changed since; else MigratedError."""
        return decode(ServiceStatus, self._ask("POST", _service(name, "/rollback"), {"to": to, "migrated": migrated}))

    def promote(self, name: str) -> ServiceStatus:
        """A canary's next step. Raises ConflictError without one."""
        return decode(ServiceStatus, self._ask("POST", _service(name, "/promote"), {}))

    def abort(self, name: str) -> ServiceStatus:
        """Takes a canary back. Raises ConflictError without one."""
        return decode(ServiceStatus, self._ask("POST", _service(name, "/abort"), {}))

    def run_job(self, name: str) -> JobStatus:
        """Starts a run, the last of its history. Raises ConflictError while one is under way."""
        return decode(JobStatus, self._ask("POST", f"/v1/jobs/{quote(name, safe='')}/run", {}))

    def exec_context(self, name: str) -> ExecContext:
        return decode(ExecContext, self._ask("GET", _service(name, "/exec")))

    def logs(
        self,
        name: str,
        *,
        replica: str | None = None,
        tail: int = 100,
        follow: bool = False,
        reconnect_s: float = RECONNECT_S,
    ) -> Iterator[LogLine]:
        """The last `tail` lines (0 to 100,000) of a service, or of `envoy`, `daemon`, `keeper`.

        With `follow` those that come too, each once, also through a restart of the daemon; ends with NotRunningError
        when it stays away for `reconnect_s`.
        """
        seen = SeenLines()
        started = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"

        def connect(again: bool) -> Iterator[LogLine | None]:
            query: dict[str, object] = {"replica": replica, "tail": tail, "follow": int(follow)}
            if again:
                query |= {"since": seen.rewind() or started, "tail": TAIL_MAX}
            with request(
                self._path, "GET", _service(name, "/logs", query), accept=LINES, timeout_s=timeout_s
            ) as answer:
                yield None
                for line in answer.lines():
                    # An empty one only keeps the connection open.
                    entry = decode(LogLine, _parsed(line)) if line else None
                    yield entry if entry and seen.is_new(entry) else None

        timeout_s = STREAM_TIMEOUT_S if follow else self._timeout_s
        if follow:
            yield from _followed(connect, reconnect_s)
        else:
            yield from (line for line in connect(False) if line)

    def events(
        self,
        after: int = 0,
        *,
        subject: str | None = None,
        follow: bool = False,
        limit: int = 1000,
        reconnect_s: float = RECONNECT_S,
    ) -> Iterator[JournalEntry]:
        """Journal entries with a greater sequence than `after`, or the last n for `after=-n`; at most `limit` (1 to
        1000) unless `follow`.

        With `follow` those that come too, each once and in order, also through a restart of the daemon; ends with
        NotRunningError when it stays away for `reconnect_s`.
        """
        if not follow:
            query = _query({"after": after, "subject": subject, "limit": limit})
            yield from decode(_EventList, self._ask("GET", f"/v1/events{query}")).events
            return
        last_seen = after

        def connect(again: bool) -> Iterator[JournalEntry | None]:
            nonlocal last_seen
            target = "/v1/events" + _query({"after": last_seen, "subject": subject, "follow": 1})
            with request(self._path, "GET", target, accept=STREAM, timeout_s=STREAM_TIMEOUT_S) as answer:
                yield None
                for kind, data in server_sent(answer.lines()):
                    if kind == "error":
                        raise from_problem(500, data)
                    if kind == "message":
                        entry = decode(JournalEntry, _parsed(data))
                        last_seen = entry.sequence
                        yield entry

        yield from _followed(connect, reconnect_s)

    def _ask(self, method: str, target: str, body: object = None) -> Any:
        with request(self._path, method, target, body=body, accept=JSON, timeout_s=self._timeout_s) as answer:
            return answer.json()


@dataclass(frozen=True, slots=True, kw_only=True)
class _EventList:
    events: tuple[JournalEntry, ...]


def _followed(connect: Callable[[bool], Iterator[T | None]], reconnect_s: float) -> Iterator[T]:
    """What `connect` yields, connecting again where the stream ends or breaks. `connect` is told whether it is again,
    and yields None for every sign of life. The first connection must succeed."""
    alive = False
    deadline = 0.0
    while True:
        try:
            for item in connect(alive):
                alive, deadline = True, 0.0
                if item is not None:
                    yield item
            broken = cut_off()
        except NotRunningError as error:
            if not alive:
                raise
            broken = error
        deadline = deadline or time.monotonic() + reconnect_s
        if time.monotonic() >= deadline:
            raise broken
        time.sleep(RETRY_S)


def _service(name: str, below: str = "", query: Mapping[str, object] | None = None) -> str:
    return f"/v1/services/{quote(name, safe='')}{below}{_query(query or {})}"


def _query(parameters: Mapping[str, object]) -> str:
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError:
        raise cut_off() from None
