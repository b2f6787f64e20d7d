"""What people are shown: the state of everything in one frozen value.

The API sends these as JSON, the client gives them back, `--json` prints them as they are. Times are seconds of the
epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from shoal.model.lag import InboxLag, OutboxLag


class Health(StrEnum):
    """How a service or the app is, in one word. Worst first."""

    FAILING = "failing"
    """Crashes again and again, or cannot be started."""
    DEGRADED = "degraded"
    """Serves, with fewer ready replicas than wanted."""
    WAITING = "waiting"
    """Held back by `after:`."""
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    """Scaled to 0, or down."""
    COMPLETED = "completed"
    """Has done what it should, and ended."""
    READY = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    at: float
    code: int | None
    reason: str
    tail: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    id: str
    service: str
    revision: int
    state: str
    """A `ReplicaState`."""
    reason: str
    """Why it is in this state: `answers on /healthz`, `exit code 1, next start in 3.2 s`."""
    since: float
    attempt: int
    crashes: int
    pid: int | None
    address: str | None
    last_exit: ExitStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PortStatus:
    name: str
    """Empty for a main port without a name."""
    port: int
    protocol: str
    """`http`, `grpc` or `tcp`."""
    address: str | None
    """Where a person reaches it: `http://localhost:3000`, `localhost:6379`. None: not published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStatus:
    """The last rollout of a service, under way or ended."""

    state: str
    """A `RolloutState`."""
    cause: str
    """`deploy 4`, `restart`, `rollback`."""
    revision: int
    """It leads to this one."""
    previous: int | None
    """And returns to this one, should it fail; None: nothing was completely rolled out before."""
    started_at: float
    since: float
    """When it entered its state."""
    new: int
    """Replicas of the new kind that are ready."""
    old: int
    """Replicas of any other kind that are ready."""
    step: str
    """What it does or waits for: `installing 14 packages`, `2 of 3 replicas are of revision 4`."""
    reason: str = ""
    """Why it failed; empty while all goes well."""
    tail: tuple[str, ...] = ()
    """With `reason`: the last lines that say more, at most 20."""

    @property
    def under_way(self) -> bool:
        return self.state in ("preparing", "canary", "rolling", "rolling-back")

    @property
    def stands(self) -> bool:
        """A canary that only a person takes on."""
        return self.state == "canary" and "shoal promote" in self.step

    @property
    def went_wrong(self) -> bool:
        return self.state in ("rolling-back", "rolled-back", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    name: str
    health: Health
    reason: str
    """One line: `3 of 3 ready`, `waits for db`, `crash loop: exit code 1 (5 in a row)`."""
    runs: str
    """What it is, as in the app file: `run shop.users:app`, `command node server.js`."""
    revision: int
    wanted: int
    ready: int
    port: int | None
    address: str | None
    """Where a person reaches it: `http://localhost:3000`. None: not published."""
    calls: tuple[str, ...]
    replicas: tuple[ReplicaStatus, ...]
    protocol: str = "http"
    """What `port` speaks: `http`, `grpc` or `tcp`."""
    ports: tuple[PortStatus, ...] = ()
    """All of them, the main one first."""
    faults: tuple[str, ...] = ()
    """Failures on purpose, of its requests or its calls: `its requests: abort 503, 10% of requests`."""
    rollout: RolloutStatus | None = None
    """None: Shoal rolls no changes of it out (an outside service, `shoal dev`)."""
    inbox: InboxLag | None = None
    """How far it is behind with events. None: no inbox bears its name."""
    outbox: OutboxLag | None = None
    """None: its database has none."""
    lag_unknown: tuple[str, ...] = ()
    """Why `inbox` or `outbox` could not be read; empty: they could."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteStatus:
    host: str | None
    path: str
    service: str
    port: str = ""
    """Name of the service's port; empty: the main one."""
    rewrite: str | None = None
    """What the service sees in the place of `path`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    address: str
    """`http://localhost:8080`"""
    port: int
    routes: tuple[RouteStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStatus:
    state: str
    """A `ProxyState`."""
    pid: int | None
    reason: str
    rejected: dict[str, str] = field(default_factory=dict)
    """Resources that Envoy refused, with its words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    id: str
    """A replica's."""
    state: str
    """`running`, `completed` or `failed`."""
    cause: str
    started_at: float
    ended_at: float | None
    code: int | None
    reason: str
    """How it ended: `exit code 1`; empty while it runs."""
    tail: tuple[str, ...]
    """The last lines it printed, at most 20."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    name: str
    runs_what: str
    """What it is, as in the app file: `command ./backup.sh`."""
    schedule: str
    """Empty: only when somebody asks."""
    state: str
    """That of its last run; `waiting` when there was none."""
    reason: str
    next_at: float | None
    history: tuple[JobRun, ...]
    """Oldest first, at most 20 that have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppStatus:
    app: str
    folder: str
    version: str
    """Of Shoal's daemon."""
    daemon_pid: int
    generation: int
    """Counts deploys; 0: nothing deployed yet."""
    health: Health
    reason: str
    names: str
    """`names` (private hosts files), `hosts` (in a container's /etc/hosts, which does not tell who calls) or `env`
    (variables only)."""
    names_reason: str
    """Why it is `hosts` or `env`; empty otherwise."""
    proxy: ProxyStatus
    gateway: GatewayStatus | None
    services: tuple[ServiceStatus, ...]
    sequence: int
    """Of the newest journal entry: follow the events from here."""
    jobs: tuple[JobStatus, ...] = ()
    socket: str = ""
    """The path of the Unix socket that this API is served on."""
    inboxes: tuple[InboxLag, ...] = ()
    """Those that bear the name of no service of the app."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value in force, for `explain`."""

    name: str
    value: str
    source: str
    """`app file`, `default`, `shoal scale`; of an edge `default`, `service` or `edge`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a service is as it is."""

    service: ServiceStatus
    settings: tuple[Setting, ...]
    decisions: tuple[str, ...]
    """What the planner wants to do now, each with its reason; empty: nothing to do."""
    waits: tuple[str, ...]
    """What it waits for: `r2: next start in 3.2 s (back-off after 5 crashes)`."""
    reaches: dict[str, str]
    """Callee -> the address that stands for the edge: `127.77.0.3:3001`."""
    called_by: tuple[str, ...]
    edges: dict[str, tuple[Setting, ...]] = field(default_factory=dict)
    """Callee -> how these calls are treated, each number with who said it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The answer to a deploy."""

    generation: int
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    sequence: int
    """Of the journal entry `Deployed`: follow the events from here."""
    rolling: tuple[str, ...] = ()
    """Services of which it began a rollout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    replica: str
    at: str
    """RFC 3339, UTC, microseconds: as the keeper stamped it."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecContext:
    """What a command needs to run as if it were part of a service."""

    env: dict[str, str]
    folder: str
    hosts: str | None
    """The private hosts file to bind over /etc/hosts; None: no namespace."""
    nsswitch: str | None
    network: str | None = None
    """Whose network the command enters, for a service with networks of its own: process ids, of who holds the app's
    mesh network and of a replica, `412:590`."""
    kept_back: str | None = None
    """The path of a file (0600), to be read once and removed: the variables that hold secrets, as a JSON object. None:
    there are none."""
    files: str | None = None
    """What is at absolute paths there, in JSON as the keeper takes it. None: nothing, or no namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionStatus:
    """One revision of a service, for `shoal revisions`."""

    number: int
    created_at: float
    state: str
    """How its last rollout ended, or stands: a `RolloutState`; empty: nothing is remembered."""
    reason: str
    """Why it failed."""
    changes: tuple[str, ...]
    """Against the revision before it, as in a dry run; empty for the first."""
    source: str
    """Digest of its source; empty: it runs from the working tree."""
    wanted: bool
    """Whether it is what should run now."""
    replicas: int
    """How many of it run."""
    tail: tuple[str, ...] = ()
    """With `reason`: the last lines that say more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionList:
    service: str
    revisions: tuple[RevisionStatus, ...]
    """Oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionDiff:
    """What is different in a revision of a service, against another one."""

    service: str
    before: int
    after: int | None
    """None: the app file and the working tree, as they are now."""
    changes: tuple[str, ...]
    """Keys of the spec, as in a dry run."""
    added: tuple[str, ...] = ()
    """Files of its source, as paths in it."""
    changed: tuple[str, ...] = ()
    """Their content, their mode, or where a link leads."""
    removed: tuple[str, ...] = ()


class ChangeKind(StrEnum):
    """What a deploy would do with a service's spec."""

    NEW = "new"
    CHANGED = "changed"
    REMOVED = "removed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One service in a dry run."""

    service: str
    change: ChangeKind
    reasons: tuple[str, ...] = ()
    """Each key that differs: `port: 3000 -> 3001`, `env.LOG_LEVEL`."""
    revision: int | None = None
    """The new one; None: no replica has to be replaced for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a deploy would change, and what would be done first."""

    app: str
    generation: int
    """Of the deploy that it would be."""
    changes: tuple[Change, ...]
    gateway: ChangeKind | None
    """None: there is none, and none was there."""
    decisions: tuple[str, ...]
    """The first actions, each with its reason; the rest follows from what happens then."""
    waits: tuple[str, ...]
