"""What happened: past tense, frozen, each with the time it happened (seconds of the epoch).

Everything that changes `Observed` or `Desired` is one of these and passes through the inbox. Those that a person wants
to read are kept in the journal; `control.journal` tells which, and in which words.
"""

from __future__ import annotations

from dataclasses import dataclass

from shoal.model.app import Restart
from shoal.model.health import Probe
from shoal.model.replica import Address, Exit
from shoal.model.signals import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    at: float


# A replica's life, in order.


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaScheduled(_Event):
    """The planner wants it to run; the engine is asked next. The first one of an id creates the replica."""

    replica: str
    service: str
    number: int
    revision: int
    generation: int
    attempt: int
    reason: str
    restart: Restart = Restart.ALWAYS
    stop_signal: str = "SIGTERM"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaProgressed(_Event):
    """Its start is at work: `installing 14 packages`."""

    replica: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStarted(_Event):
    replica: str
    attempt: int
    pid: int
    address: Address | None
    ports: tuple[tuple[str, Address], ...] = ()
    """Of its further ports, by their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSucceeded(_Event):
    replica: str
    attempt: int
    probe: Probe = Probe.READINESS
    of: int = 1
    """So many in a row count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFailed(_Event):
    replica: str
    attempt: int
    detail: str
    """What came back: `HTTP 503 on /healthz`."""
    probe: Probe = Probe.READINESS
    of: int = 3
    """So many in a row count."""
    asked: str = ""
    """What was asked: `/livez on port admin`."""
    early: bool = False
    """Liveness: counts also for one that has not been ready yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainStarted(_Event):
    replica: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSent(_Event):
    """Its stop signal (or SIGKILL, `forced`) was sent."""

    replica: str
    forced: bool
    reason: str
    signal: str = "SIGTERM"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaExited(_Event):
    """Its process ended, or could not be started."""

    replica: str
    attempt: int
    exit: Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaForgotten(_Event):
    replica: str


# The making of a revision, before its first replica.


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionScheduled(_Event):
    """The engine is asked to make its environment and its build."""

    service: str
    revision: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionProgressed(_Event):
    """`installing 14 packages`, `npm ci`."""

    service: str
    revision: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionPrepared(_Event):
    service: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionFailed(_Event):
    """It cannot be made: no replica of it will start."""

    service: str
    revision: int
    error: str
    tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSampled(_Event):
    """Envoy's counters, of the services that are watched."""

    samples: tuple[Traffic, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsUnderWay(_Event):
    """Envoy's count, of replicas that drain; `at`: when it was asked."""

    counts: tuple[tuple[str, int], ...]
    """(replica, requests), or connections where it is spoken to in bytes. Without those of which nobody can say."""


# The change of a service from one revision to the next.


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStarted(_Event):
    service: str
    revision: int
    cause: str
    """`deploy 4`, `restart`, `rollback`."""
    previous: int | None = None
    """The revision to return to; None: nothing was completely rolled out before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutAdvanced(_Event):
    """It entered the next of its states, or one more replica has taken over."""

    service: str
    revision: int
    state: str
    """A `RolloutState`."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutCompleted(_Event):
    service: str
    revision: int
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutFailed(_Event):
    service: str
    revision: int
    reason: str
    previous: int | None = None
    """The revision that it returns to now; None: it goes on trying."""
    tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack(_Event):
    """All is as it was before the rollout that failed."""

    service: str
    revision: int
    """The one that runs again."""
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSuperseded(_Event):
    service: str
    revision: int
    by: int
    """The revision of the newer rollout."""


# Envoy.


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyScheduled(_Event):
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStarted(_Event):
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyReplacementRequested(_Event):
    """Another Envoy should take over: a newer one was installed, or somebody asked."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyReplacementStarted(_Event):
    """The new one is asked for; the old one serves until it has taken over."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyReplaced(_Event):
    """The new one serves; the old one finishes what it has and ends by itself."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyReplacementFailed(_Event):
    """The old one serves on."""

    exit: Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStopSent(_Event):
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyExited(_Event):
    exit: Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPublished(_Event):
    """Handed to the sink: from now on Envoy may route to these replicas."""

    version: int
    generation: int
    replicas: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotApplied(_Event):
    """Envoy confirmed all of it: it routes to these replicas and no others (unless a newer snapshot is on its way)."""

    version: int
    replicas: frozenset[str]
    rejected: tuple[tuple[str, str], ...] = ()
    """All that Envoy still refuses of it: (resource, its words). Comes again, with the same version, when that changes:
    a port that was taken is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRejected(_Event):
    """Envoy refused one resource and keeps its old version; the others went through."""

    resource: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDenied(_Event):
    """A service called, by name, one that it does not declare in `calls:`."""

    caller: str
    callee: str
    port: int


# What people asked for.


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed(_Event):
    generation: int
    changed: tuple[str, ...]
    """Services with a new revision."""
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled(_Event):
    service: str
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRequested(_Event):
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DownRequested(_Event):
    hurry: bool = False
    """Requests under way are not waited for."""


# Shoal itself.


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStarted(_Event):
    pid: int
    version: str
    adopted: int
    """Replicas found running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperLost(_Event):
    """The keeper's socket closed; a new keeper takes over what runs."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperAttached(_Event):
    pid: int
    adopted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(_Event):
    """Something a person should know that stops nothing: names fall back to env, an environment is not reproducible."""

    subject: str
    message: str
    way_out: str = ""


ReplicaEvent = (
    ReplicaScheduled
    | ReplicaProgressed
    | ReplicaStarted
    | ProbeSucceeded
    | ProbeFailed
    | DrainStarted
    | StopSent
    | ReplicaExited
    | ReplicaForgotten
)
ProxyEvent = (
    ProxyScheduled
    | ProxyStarted
    | ProxyStopSent
    | ProxyExited
    | ProxyReplacementRequested
    | ProxyReplacementStarted
    | ProxyReplaced
    | ProxyReplacementFailed
    | SnapshotPublished
    | SnapshotApplied
    | ResourceRejected
    | CallDenied
)
RevisionEvent = (
    RevisionScheduled | RevisionProgressed | RevisionPrepared | RevisionFailed | TrafficSampled | RequestsUnderWay
)
RolloutEvent = RolloutStarted | RolloutAdvanced | RolloutCompleted | RolloutFailed | RolledBack | RolloutSuperseded
RequestEvent = Deployed | Scaled | RestartRequested | DownRequested
OwnEvent = DaemonStarted | KeeperLost | KeeperAttached | Warned
Event = ReplicaEvent | RevisionEvent | RolloutEvent | ProxyEvent | RequestEvent | OwnEvent
