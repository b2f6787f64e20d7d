"""A plane to put the API in front of, and a way to call an ASGI application without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette

from shoal.api.app import create_app
from shoal.control.journal import Feed
from shoal.errors import NotFoundError, ShoalError
from shoal.model.app import App, Command, Gateway, PythonApp, Route, Service
from shoal.model.journal import JournalEntry
from shoal.model.migration import MigrationList, MigrationRun
from shoal.model.status import (
    AppStatus,
    Change,
    ChangeKind,
    Deployment,
    DryRun,
    ExecContext,
    ExitStatus,
    Explanation,
    GatewayStatus,
    Health,
    JobStatus,
    ProxyStatus,
    ReplicaStatus,
    RevisionDiff,
    RevisionList,
    RevisionStatus,
    RouteStatus,
    ServiceStatus,
    Setting,
)
from shoal.ports import Store
from shoal.spec import wire
from shoal.testing.memory_store import MemoryStore

APP = App(
    name="shop",
    services=(
        Service(
            name="cart",
            workload=PythonApp(module="shop.carts", attribute="app"),
            folder="/shop",
            port=3002,
            publish=True,
            calls=("products",),
            after=("products",),
            env=(("A", "1"),),
            health="/healthz",
        ),
        Service(name="products", workload=Command(argv=("node", "server.js")), folder="/shop", port=3001),
    ),
    gateway=Gateway(port=8080, routes=(Route(service="cart", path="/carts"),)),
    folder="/shop",
)
DOCUMENT: dict[str, Any] = wire.to_plain(APP)

DRY_RUN = DryRun(
    app="shop",
    generation=2,
    changes=(
        Change(service="cart", change=ChangeKind.CHANGED, reasons=("port: 3000 -> 3002",), revision=2),
        Change(service="products", change=ChangeKind.UNCHANGED),
        Change(service="old", change=ChangeKind.REMOVED),
    ),
    gateway=ChangeKind.NEW,
    decisions=("start cart-r2 (revision 2): replaces an older one by revision 2",),
    waits=("cart: 1 older replicas serve until newer ones do",),
)

REPLICA = ReplicaStatus(
    id="cart-r1",
    service="cart",
    revision=1,
    state="ready",
    reason="answers on /healthz",
    since=1.5,
    attempt=2,
    crashes=1,
    pid=77,
    address="unix:/run/cart-r1.sock",
    last_exit=ExitStatus(at=1.0, code=None, reason="ended, exit code unknown", tail=("a", "b")),
)
REVISIONS = RevisionList(
    service="cart",
    revisions=(
        RevisionStatus(
            number=1,
            created_at=1.0,
            state="completed",
            reason="",
            changes=(),
            source="",
            wanted=True,
            replicas=1,
        ),
    ),
)
DIFF = RevisionDiff(service="cart", before=1, after=None, changes=("env.A",), changed=("cart.py",))
SERVICE = ServiceStatus(
    name="cart",
    health=Health.READY,
    reason="1 of 1 ready",
    runs="run shop.carts:app",
    revision=1,
    wanted=1,
    ready=1,
    port=3002,
    address=None,
    calls=("products",),
    replicas=(REPLICA, replace(REPLICA, id="cart-r2", last_exit=None, pid=None)),
)
STATUS = AppStatus(
    app="shop",
    folder="/shop",
    version="0.1.0",
    daemon_pid=9,
    generation=1,
    health=Health.DEGRADED,
    reason="",
    names="env",
    names_reason="no namespaces here",
    proxy=ProxyStatus(state="serving", pid=8, reason="", rejected={"listener": "no"}),
    gateway=GatewayStatus(
        address="http://localhost:8080", port=8080, routes=(RouteStatus(host=None, path="/carts", service="cart"),)
    ),
    services=(SERVICE,),
    sequence=0,
)
EXPLANATION = Explanation(
    service=SERVICE,
    settings=(Setting(name="replicas", value="1", source="default"),),
    decisions=("start r2: 1 missing",),
    waits=(),
    reaches={"products": "127.77.0.2:3001"},
    called_by=("web",),
)
CONTEXT = ExecContext(env={"PORT": "1", "Ü": "ö"}, folder="/shop", hosts="/h", nsswitch=None)


MIGRATIONS = MigrationList(
    service="cart",
    command="alembic upgrade head",
    runs=(
        MigrationRun(
            revision=1,
            command="alembic upgrade head",
            database="postgres 1a2b",
            started_at=5.0,
            ended_at=6.5,
            outcome="failed",
            reason="exit code 1",
            log="/srv/shop/.shoal/logs/cart/migrate-1.log",
        ),
    ),
)


@dataclass
class FakeCommands:
    """Answers as the real ones do; remembers what was asked. `broken`, when set, is raised instead."""

    asked: list[Any] = field(default_factory=list)
    broken: BaseException | None = None
    reason: str = "1 of 1 ready"
    looks_at_lag: int = 0

    def _do(self, *what: Any) -> None:
        if self.broken is not None:
            raise self.broken
        self.asked.append(what)

    def _known(self, service: str) -> ServiceStatus:
        if service != "cart":
            raise NotFoundError(f"shop has no service '{service}'", way_out="there are: cart")
        return replace(SERVICE, reason=self.reason)

    def migrations(self, service: str) -> MigrationList:
        self._do("migrations", service)
        return replace(MIGRATIONS, service=self._known(service).name)

    async def look_at_lag(self) -> None:
        self.looks_at_lag += 1

    def status(self) -> AppStatus:
        self._do("status")
        return STATUS

    def explain(self, service: str) -> Explanation:
        self._do("explain", service)
        return replace(EXPLANATION, service=self._known(service))

    def exec_context(self, service: str) -> ExecContext:
        self._do("exec", service)
        self._known(service)
        return CONTEXT

    async def dry_run(self, app: App) -> DryRun:
        self._do("plan", app)
        return DRY_RUN

    def partly(self, app: App, only: Collection[str]) -> App:
        self._do("partly", app, tuple(only))
        return app

    def revisions(self, service: str) -> RevisionList:
        self._do("revisions", service)
        self._known(service)
        return REVISIONS

    async def diff(self, service: str, before: int | None, after: int | None, app: App | None) -> RevisionDiff:
        self._do("diff", service, before, after, app)
        self._known(service)
        return DIFF

    async def rollback(self, service: str, to: int | None, *, migrated: bool = False) -> ServiceStatus:
        self._do("rollback", service, to)
        return self._known(service)

    async def deploy(self, app: App, *, only: Collection[str] = (), canary: object = None) -> Deployment:
        self._do("deploy", app)
        return Deployment(generation=2, changed=("cart",), removed=(), sequence=5)

    async def scale(self, service: str, replicas: int) -> ServiceStatus:
        self._do("scale", service, replicas)
        return replace(self._known(service), wanted=replicas)

    async def restart(self, service: str) -> ServiceStatus:
        self._do("restart", service)
        return self._known(service)

    async def replace_proxy(self) -> None:
        self._do("replace_proxy")

    async def promote(self, service: str) -> ServiceStatus:
        self._do("promote", service)
        return self._known(service)

    async def abort(self, service: str) -> ServiceStatus:
        self._do("abort", service)
        return self._known(service)

    async def run_job(self, job: str) -> JobStatus:
        self._do("run_job", job)
        return JobStatus(
            name=job, runs_what="command x", schedule="", state="running", reason="", next_at=None, history=()
        )

    async def down(self, *, now: bool = False) -> None:
        self._do("down", *(["now"] if now else []))


class Plane:
    """The API in front of fake commands, with a real feed."""

    def __init__(self, logs: Path, store: Store | None = None) -> None:
        self.commands = FakeCommands()
        self.store = store or MemoryStore()
        self.feed = Feed(backlog=20)
        self.logs = logs
        self.app: Starlette = create_app(self.commands, self.store, self.feed, logs)

    def happen(self, subject: str = "app", kind: str = "Kind", message: str = "it happened") -> JournalEntry:
        """What the controller does with an event: the store first, then the feed."""
        entry = self.store.append(1.5, kind, subject, message, {})
        self.feed.publish(entry)
        return entry

    def close(self) -> None:
        self.app.state.plane.closing.set()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def _scope(method: str, target: str, headers: dict[str, str]) -> dict[str, Any]:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": None,
        "server": None,
    }


async def ask(
    app: Starlette,
    method: str,
    target: str,
    body: bytes | object = b"",
    *,
    headers: dict[str, str] | None = None,
    pieces: Iterable[bytes] | None = None,
) -> Answer:
    """One request to its end. `body`: bytes, or what becomes JSON; `pieces`: a body in several parts."""
    parts = list(pieces) if pieces is not None else [body if isinstance(body, bytes) else json.dumps(body).encode()]
    messages = [
        {"type": "http.request", "body": part, "more_body": index + 1 < len(parts)} for index, part in enumerate(parts)
    ]
    answer = Answer(0, {}, b"")

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    await app(_scope(method, target, headers or {}), receive, send)
    return answer


def asked(app: Starlette, method: str, target: str, body: bytes | object = b"", **more: Any) -> Answer:
    async def once() -> Answer:
        async with asyncio.timeout(20):
            return await ask(app, method, target, body, **more)

    return asyncio.run(once())


class Reader:
    """The other end of a stream: what came so far."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.received = b""
        self.ended = False
        self.gone = asyncio.Event()
        self._changed = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        """Cleared: a reader that does not read."""

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.received += message.get("body", b"")
            self.ended = not message.get("more_body", False)
        self._changed.set()

    async def until(self, part: bytes) -> bytes:
        """All that was received, once `part` is in it."""
        while part not in self.received:
            self._changed.clear()
            await self._changed.wait()
        return self.received


@asynccontextmanager
async def reading(app: Starlette, target: str, headers: dict[str, str] | None = None) -> AsyncIterator[Reader]:
    """A stream that is read while the context is open; its reader goes away at the end, and then its task must end."""
    reader = Reader()
    task = asyncio.create_task(app(_scope("GET", target, headers or {}), reader.receive, reader.send), name="stream")
    try:
        yield reader
    finally:
        reader.gone.set()
        reader.reads.set()
        async with asyncio.timeout(5):
            await task


def problem_of(answer: Answer, error: type[ShoalError]) -> Any:
    """The problem document, whose outer shape is checked."""
    assert answer.headers["content-type"] == "application/problem+json", answer
    body = answer.json
    assert (answer.status, body["status"], body["code"]) == (error.status, error.status, error.code)
    assert body["type"] == f"urn:shoal:error:{error.code}"
    assert body["title"] and isinstance(body["lines"], list)
    return body
