"""The two sides of the planner's question: what is wanted, and what is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from shoal.model.app import App, Gateway, Service
from shoal.model.replica import Replica
from shoal.model.replicas import Replicas
from shoal.model.revision import Revision as Revision
from shoal.model.rollout import Fallback, Outcome, Release, Rollout
from shoal.model.signals import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is wanted of one service."""

    revision: Revision
    replicas: int
    generation: int = 0
    """Raised by `shoal restart`, and by another try of a revision that failed; replicas of other ones are replaced."""
    rollout: Rollout | None = None
    """The last one, under way or ended. None: there is none for what Shoal does not roll (an outside service, a job,
    `shoal dev`)."""
    outcomes: tuple[Outcome, ...] = ()
    """How the rollouts of its revisions ended, oldest first; of each revision the last."""

    @property
    def service(self) -> Service:
        return self.revision.service

    def is_current(self, replica: Replica) -> bool:
        """Whether it is of this revision, and was started since the last `shoal restart`."""
        return replica.revision == self.revision.number and replica.generation == self.generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Stable:
    """An app whose rollouts all ended well: a deploy that cannot be taken back for one service alone returns to it."""

    services: tuple[Fallback, ...]
    """All of them, in the app file's order."""
    gateway: Gateway | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What is wanted of the whole app."""

    app: App
    generation: int
    """Counts deploys."""
    targets: dict[str, Target]
    """By service name, in the app file's order."""
    at: float = 0.0
    """When it was deployed."""
    down: bool = False
    """`shoal down`: nothing should run, the proxy last."""
    down_at: float = 0.0
    """When that was asked for, or hurried."""
    hurry: bool = False
    """While it goes down: requests under way are waited for no longer, and processes not for long."""
    stable: Stable | None = None
    """Before this deploy. None: none was."""


class ProxyState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    """The process was asked for, or runs and has not fetched its configuration."""
    SERVING = "serving"
    BACKING_OFF = "backing-off"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Envoy's process."""

    state: ProxyState = ProxyState.STOPPED
    since: float = 0.0
    pid: int | None = None
    attempt: int = 0
    crashes: int = 0
    strikes: int = 0
    """The exponent of its back-off, as of a replica."""
    last_error: str = ""
    tail: tuple[str, ...] = ()
    outdated: str = ""
    """Why another one should take over; empty: nobody wants that."""
    replacing: bool = False
    """Another one is about to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """What of a snapshot matters to the planner."""

    version: int
    generation: int
    replicas: frozenset[str]


@dataclass(slots=True, kw_only=True)
class Observed:
    """What is there. One writer, the controller, which folds events into it (`planner.fold`); the planner reads."""

    replicas: Replicas = field(default_factory=Replicas)
    """By id."""
    proxy: Proxy = field(default_factory=Proxy)
    applied: Routes = Routes(version=0, generation=0, replicas=frozenset())
    """The last snapshot that Envoy confirmed."""
    pending: tuple[Routes, ...] = ()
    """Published and not confirmed, oldest first; at most 32, the oldest merged."""
    mesh_generation: int = 0
    """The newest deploy whose listeners and routes Envoy has confirmed."""
    next_number: dict[str, int] = field(default_factory=dict)
    """By service: the number of its next replica, from 1."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Envoy's resources that it refused, by name, with its words."""
    rejected_since: dict[str, float] = field(default_factory=dict)
    """By the same names."""
    releases: dict[tuple[str, int], Release] = field(default_factory=dict)
    """By service and revision: what was asked to be made ready since the daemon started."""
    traffic_at: float = 0.0
    """When Envoy was last asked what it had counted. 0: never, or nobody can."""
    traffic: dict[tuple[str, int], Traffic] = field(default_factory=dict)
    """By service and revision: the newest counters, of services with a rollout under way."""

    def __post_init__(self) -> None:
        self.replicas = Replicas(self.replicas)  # a plain dict will do where one is made

    @property
    def routed(self) -> frozenset[str]:
        """Replicas that Envoy may still send requests to."""
        return self.applied.replicas.union(*(snapshot.replicas for snapshot in self.pending))

    def of(self, service: str) -> list[Replica]:
        """A service's replicas, by number."""
        return self.replicas.of(service)
