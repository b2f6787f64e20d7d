"""What the control loop needs of the outside, as Protocols. Each has a real adapter and a shipped fake in `testing/`.

Adapters report what happens by putting events into the inbox; their methods only ask.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shoal.mesh.snapshot import Snapshot
from shoal.model.app import App
from shoal.model.event import Event
from shoal.model.journal import JournalEntry as JournalEntry
from shoal.model.lag import Lag
from shoal.model.replica import Address, Replica
from shoal.model.topology import EdgeMap
from shoal.model.world import Desired, Revision


class Clock(Protocol):
    def now(self) -> float:
        """Seconds of the epoch; never goes backwards within one process."""
        ...


class Inbox(Protocol):
    """The one way into the control loop. Bounded: `put` waits when the loop is behind."""

    async def put(self, event: Event) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """All that an engine needs to start one attempt of a replica."""

    replica: str
    attempt: int
    revision: Revision
    app: App
    edges: EdgeMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """All that an engine needs to make a revision ready for its replicas."""

    revision: Revision
    app: App
    edges: EdgeMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A process that the engine runs, or ran until it ended unseen."""

    replica: str
    attempt: int
    pid: int | None
    address: Address | None
    running: bool
    ports: tuple[tuple[str, Address], ...] = ()
    """Of its further ports, by their names."""
    exit_code: int | None = None
    """Of one that does not run any more; None where nobody saw it end."""


class Engine(Protocol):
    """Runs replicas and the proxy. The local one makes processes."""

    async def start(self, launch: Launch) -> None:
        """Starts a process and returns once it runs; reports ReplicaProgressed, ReplicaStarted and, when it ends (or
        could not be started), ReplicaExited. Raises nothing for a failed start: that is an event. Starting a replica
        whose attempt already runs does nothing."""
        ...

    async def stop(self, replica: str, *, force: bool) -> bool:
        """SIGTERM, or SIGKILL to the whole group; its end is reported as ReplicaExited. A start in preparation is given
        up. False: there is no process, and nothing will be reported."""
        ...

    async def snapshot(self, app: App, *, keep: bool) -> Mapping[str, str]:
        """The digest of each service's source tree as it is now, by service; none for one that runs from the working
        tree. `keep`: stores the snapshots too, so that `prepare` and `start` find them by `Revision.source`; a dry run
        does not. EngineError: a tree cannot be read, or is too large."""
        ...

    async def files(self, source: str) -> Mapping[str, str]:
        """What a snapshot holds: path -> something that is another text when the file is another. EngineError: it is
        gone."""
        ...

    async def prepare(self, preparation: Preparation) -> None:
        """Makes what replicas of the revision need before the first starts: environment, build. Returns once that is
        there, at once when it was made before; reports RevisionProgressed. EngineError: why not, with the log's last
        lines in `detail`. Asked twice at the same time, the second waits for the first."""
        ...

    async def collect(self, revisions: Collection[Revision]) -> None:
        """Removes snapshots, builds and environments that none of these needs; what cannot be removed stays."""
        ...

    async def observe(self) -> Sequence[Found]:
        """What replicas run now (from here on they are watched and probed), and which ended since last forgotten."""
        ...

    async def forget(self, replica: str) -> None:
        """Drops what the engine remembers of a replica that has no process (its exit code, its socket)."""
        ...

    async def start_proxy(self) -> None:
        """Starts Envoy; reports ProxyStarted and ProxyExited. Does nothing when it runs."""
        ...

    async def replace_proxy(self) -> None:
        """Starts another Envoy, which takes over from the one that runs without losing a request; reports ProxyReplaced
        or ProxyReplacementFailed. Does nothing when none runs."""
        ...

    async def stop_proxy(self) -> None:
        """SIGTERM, and SIGKILL when that had its time. Every stop ends in ProxyExited, also without a process."""
        ...

    async def observe_proxy(self) -> int | None:
        """The pid of a running Envoy."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """A replica whose requests are counted."""

    replica: str
    service: str
    addresses: frozenset[str]
    """By which Envoy lists it among the endpoints. Empty: it is not, and all of its service's requests are those of
    replicas that leave."""


class SnapshotSink(Protocol):
    """Takes what Envoy should hold, and reports SnapshotApplied and ResourceRejected."""

    def publish(self, snapshot: Snapshot) -> None:
        """Replaces the whole snapshot; only what differs is sent. Cheap when little differs; never blocks."""
        ...


class TrafficMeter(Protocol):
    """Counts requests by service and revision, and reports TrafficSampled about once a second."""

    def watch(self, services: Collection[str]) -> None:
        """Reports these from now on, and no others; none: rests. Cheap to call again with the same ones."""
        ...


class DrainMeter(Protocol):
    """Counts the requests that draining replicas have under way, and reports RequestsUnderWay several times a second
    while there are any such replicas."""

    def watch(self, replicas: Collection[Drained]) -> None:
        """Reports these from now on, and no others; none: rests. Cheap to call again with the same ones."""
        ...


class LagReader(Protocol):
    """Asks the brokers and the databases of an app how far events are behind."""

    async def read(self, app: App) -> Lag:
        """Now. Takes a second at the most, whoever is silent; what is away is part of the answer. Starts and makes
        nothing, and leaves out what was never started."""
        ...


class Store(Protocol):
    """What outlives the daemon. Every method is one transaction, done when it returns; raises StoreError."""

    def load_desired(self) -> Desired | None:
        """None: nothing was ever deployed."""
        ...

    def save_desired(self, desired: Desired) -> None: ...

    def revisions(self, service: str) -> Sequence[Revision]:
        """Oldest first."""
        ...

    def add_revision(self, revision: Revision) -> None: ...

    def every_revision(self) -> Mapping[str, Sequence[Revision]]:
        """By service, also of those that were removed; oldest first."""
        ...

    def delete_revisions(self, service: str, numbers: Collection[int]) -> None:
        """Those of them that there are."""
        ...

    def load_replicas(self) -> Sequence[Replica]: ...

    def save_replica(self, replica: Replica) -> None: ...

    def delete_replica(self, replica: str) -> None: ...

    def next_numbers(self) -> dict[str, int]:
        """By service: one more than the greatest replica number ever saved, so that none is given twice."""
        ...

    def lease_edges(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Edge numbers of these (caller, callee), kept for ever once given. StoreError: all 65,534 are used up."""
        ...

    def get(self, key: str) -> str | None:
        """A small setting: the app's network byte, the schema's version."""
        ...

    def put(self, key: str, value: str) -> None: ...

    def append(self, at: float, kind: str, subject: str, message: str, data: dict[str, object]) -> JournalEntry: ...

    def journal(self, *, after: int = 0, limit: int = 1000, subject: str | None = None) -> Sequence[JournalEntry]:
        """Entries with a greater sequence, oldest first. With `after=-n`: the last n. `subject` matches itself and,
        for a service, its replicas."""
        ...
