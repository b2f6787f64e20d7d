"""Every operation of the API in one table: the routes and the OpenAPI document are both made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from shoal.errors import ConflictError, EngineError, NotFoundError, ShoalError, StoreError
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
    LogLine,
    RevisionDiff,
    RevisionList,
    ServiceStatus,
)
from shoal.ports import JournalEntry

JSON = "application/json"
LINES = "application/x-ndjson"
STREAM = "text/event-stream"
TEXT = "text/plain"
PROBLEM = "application/problem+json"

KIB = 1 << 10
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployRequest:
    """The whole app, valid and with all references filled in, as `shoal up` sends it."""

    app: App
    only: tuple[str, ...] = ()
    """The changes of these services alone; all others, and the gateway, stay as they run. Empty: everything."""
    canary: CanaryPlan | None = None
    """How the changes are rolled out, for once. None: as each service says (`rollout`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleRequest:
    """How many replicas a service should have."""

    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackRequest:
    """To which revision."""

    to: int | None = None
    """None: the last one that was completely rolled out before."""
    migrated: bool = False
    """Also where migrations have changed the schema since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffRequest:
    """Which two to compare."""

    before: int | None = None
    """None: the revision that is wanted now."""
    after: int | None = None
    """The same."""
    app: App | None = None
    """In the place of `after`: the app as it is written now, with the working tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownRequest:
    """How."""

    now: bool = False
    """Without waiting for requests under way; also when it is going down already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventList:
    """Journal entries, oldest first."""

    events: tuple[JournalEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """An empty object: it was done, or is on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One query parameter or header; all of them are optional."""

    name: str
    kind: Literal["text", "number", "flag"]
    """A flag is `0` or `1`."""
    summary: str
    default: str | int | None = None
    least: int | None = None
    most: int | None = None
    where: Literal["query", "header"] = "query"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    id: str
    """The `operationId`, and the name of its handler."""
    method: Literal["GET", "POST"]
    path: str
    """With `{name}` for the service's name."""
    summary: str
    answers: Any
    """The type of the answer's body, or of one line or one event of a stream. None: any JSON object."""
    answer_media: tuple[str, ...] = (JSON,)
    item: Any = None
    """The type of one line or event, where a media type is a stream; of the whole, where it is plain text."""
    status: int = 200
    body: Any = None
    """The type of the request's body."""
    body_max: int = 64 * KIB
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[type[ShoalError], ...] = ()
    """Those that belong to the operation; any may answer `usage` and `error`."""


_SUBJECT = Parameter(name="subject", kind="text", summary="A service (with its replicas), a replica, `app`, `proxy`.")

OPERATIONS: tuple[Operation, ...] = (
    Operation(id="getApp", method="GET", path="/v1/app", summary="The state of everything.", answers=AppStatus),
    Operation(
        id="deploy",
        method="POST",
        path="/v1/deploy",
        summary="Deploys the app: starts, replaces and stops what differs.",
        body=DeployRequest,
        body_max=8 * MIB,
        answers=Deployment,
        problems=(ConflictError, StoreError),
    ),
    Operation(
        id="plan",
        method="POST",
        path="/v1/plan",
        summary="What a deploy of the app would change, and what would be done first. Changes nothing.",
        body=DeployRequest,
        body_max=8 * MIB,
        answers=DryRun,
        problems=(StoreError,),
    ),
    Operation(
        id="down",
        method="POST",
        path="/v1/down",
        summary="Stops everything, callers before those they call, the proxy last, and then the daemon.",
        body=DownRequest,
        answers=Nothing,
        status=202,
    ),
    Operation(
        id="replaceProxy",
        method="POST",
        path="/v1/proxy/replace",
        summary="Lets another Envoy take over from the one that runs, without losing a request.",
        answers=Nothing,
        status=202,
        problems=(ConflictError,),
    ),
    Operation(
        id="explain",
        method="GET",
        path="/v1/services/{name}",
        summary="Why a service is as it is.",
        answers=Explanation,
        problems=(NotFoundError,),
    ),
    Operation(
        id="scale",
        method="POST",
        path="/v1/services/{name}/scale",
        summary="Sets how many replicas a service has.",
        body=ScaleRequest,
        answers=ServiceStatus,
        problems=(NotFoundError, StoreError),
    ),
    Operation(
        id="promote",
        method="POST",
        path="/v1/services/{name}/promote",
        summary="Takes a service's canary to its next step; after the last one, all replicas are replaced.",
        answers=ServiceStatus,
        problems=(NotFoundError, ConflictError, StoreError),
    ),
    Operation(
        id="abort",
        method="POST",
        path="/v1/services/{name}/abort",
        summary="Takes a service's canary back: all requests go to the revision before.",
        answers=ServiceStatus,
        problems=(NotFoundError, ConflictError, StoreError),
    ),
    Operation(
        id="restart",
        method="POST",
        path="/v1/services/{name}/restart",
        summary="Replaces a service's replicas, one by one, without losing a request.",
        answers=ServiceStatus,
        problems=(NotFoundError, StoreError),
    ),
    Operation(
        id="revisions",
        method="GET",
        path="/v1/services/{name}/revisions",
        summary="A service's revisions, what each changed, and how its rollout ended.",
        answers=RevisionList,
        problems=(NotFoundError, StoreError),
    ),
    Operation(
        id="migrations",
        method="GET",
        path="/v1/services/{name}/migrations",
        summary="A service's migrations that have ended: of which revision, when, and how.",
        answers=MigrationList,
        problems=(NotFoundError, EngineError),
    ),
    Operation(
        id="diff",
        method="POST",
        path="/v1/services/{name}/diff",
        summary="What is different in a service's revision, or in the working tree, against another: keys and files.",
        body=DiffRequest,
        body_max=8 * MIB,
        answers=RevisionDiff,
        problems=(NotFoundError, StoreError),
    ),
    Operation(
        id="rollback",
        method="POST",
        path="/v1/services/{name}/rollback",
        summary="Rolls a service out to an older revision: its code and its spec.",
        body=RollbackRequest,
        answers=ServiceStatus,
        problems=(NotFoundError, ConflictError, StoreError),
    ),
    Operation(
        id="runJob",
        method="POST",
        path="/v1/jobs/{name}/run",
        summary="Starts a run of a job now.",
        answers=JobStatus,
        status=202,
        problems=(NotFoundError, ConflictError, StoreError),
    ),
    Operation(
        id="logs",
        method="GET",
        path="/v1/services/{name}/logs",
        summary="Log lines of a service's replicas, merged by time; `envoy`, `daemon` and `keeper` are names too. "
        "Empty lines of the stream only keep it open.",
        answers=LogLine,
        answer_media=(LINES,),
        item=LogLine,
        parameters=(
            Parameter(name="replica", kind="text", summary="One replica only: `cart-r3`, `r3` or `3`."),
            Parameter(
                name="tail",
                kind="number",
                summary="The newest lines to begin with.",
                default=100,
                least=0,
                most=100_000,
            ),
            Parameter(name="since", kind="text", summary="None that is older than this time stamp of a line."),
            Parameter(name="follow", kind="flag", summary="Whether to go on with new lines.", default=0),
        ),
        problems=(NotFoundError,),
    ),
    Operation(
        id="execContext",
        method="GET",
        path="/v1/services/{name}/exec",
        summary="What a command needs to run as if it were part of a service.",
        answers=ExecContext,
        problems=(NotFoundError,),
    ),
    Operation(
        id="events",
        method="GET",
        path="/v1/events",
        summary="The journal: as a list, or with `Accept: text/event-stream` as a stream without gap or duplicate, "
        "whose ids are the entries' sequences.",
        answers=EventList,
        answer_media=(JSON, STREAM),
        item=JournalEntry,
        parameters=(
            Parameter(
                name="after", kind="number", summary="Entries with a greater sequence; -n: the last n.", default=0
            ),
            _SUBJECT,
            Parameter(
                name="limit", kind="number", summary="At most so many (list only).", default=1000, least=1, most=1000
            ),
            Parameter(
                name="follow",
                kind="flag",
                summary="Whether to go on with new entries (stream only); 1 when left out.",
            ),
            Parameter(name="Last-Event-ID", kind="number", summary="Wins over `after` (stream only).", where="header"),
        ),
    ),
    Operation(
        id="metrics",
        method="GET",
        path="/metrics",
        summary="Gauges and counters of services and of events that are behind, as Prometheus reads them.",
        answers=str,
        answer_media=(TEXT,),
        item=str,
    ),
    Operation(
        id="openapi", method="GET", path="/v1/openapi.json", summary="This description, OpenAPI 3.1.", answers=None
    ),
)
