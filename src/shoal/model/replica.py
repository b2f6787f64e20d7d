"""What runs: a replica, its states, and the one table of how it goes from one to another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shoal.model.app import Restart


class ReplicaState(StrEnum):
    """Where a replica is in its life. Only READY ones are in Envoy's endpoints."""

    STARTING = "starting"
    """Its process was asked for, or runs and has not been ready in this attempt."""
    READY = "ready"
    UNREADY = "unready"
    """Was ready; its probes fail now. Runs on, out of the endpoints."""
    BACKING_OFF = "backing-off"
    """Its process ended by itself, or could not be started. Starts again when its back-off is over."""
    COMPLETED = "completed"
    """Its process ended with exit code 0, and by `restart:` that was all that it should do."""
    FAILED = "failed"
    """Its process ended otherwise, and by `restart: never` it is not started again."""
    RESTARTING = "restarting"
    """Its liveness or startup probe has failed: out of the endpoints, then told to end, then started again."""
    DRAINING = "draining"
    """Leaves: out of the endpoints, finishing what it has. Never comes back."""
    STOPPING = "stopping"
    """Was sent SIGTERM, later SIGKILL."""
    GONE = "gone"
    """No process, no endpoint, no way back. Forgotten at the next pass."""


class Trigger(StrEnum):
    """What moves a replica from state to state."""

    SCHEDULED = "scheduled"
    BECAME_READY = "became ready"
    BECAME_UNREADY = "became unready"
    CONDEMNED = "condemned"
    """Its liveness or startup probe failed so often that only a restart may help."""
    DRAIN_STARTED = "drain started"
    STOP_SENT = "stop sent"
    EXITED = "exited"
    """And is to be started again, unless it was leaving."""
    COMPLETED = "completed"
    """Exited, with success and for good."""
    FAILED = "failed"
    """Exited, without success and for good."""


_S, _T = ReplicaState, Trigger

TRANSITIONS: dict[tuple[ReplicaState, Trigger], ReplicaState] = {
    (_S.STARTING, _T.BECAME_READY): _S.READY,
    (_S.STARTING, _T.DRAIN_STARTED): _S.DRAINING,
    (_S.STARTING, _T.EXITED): _S.BACKING_OFF,
    (_S.READY, _T.BECAME_UNREADY): _S.UNREADY,
    (_S.READY, _T.DRAIN_STARTED): _S.DRAINING,
    (_S.READY, _T.EXITED): _S.BACKING_OFF,
    (_S.UNREADY, _T.BECAME_READY): _S.READY,
    (_S.UNREADY, _T.DRAIN_STARTED): _S.DRAINING,
    (_S.UNREADY, _T.EXITED): _S.BACKING_OFF,
    (_S.RESTARTING, _T.DRAIN_STARTED): _S.DRAINING,
    (_S.RESTARTING, _T.EXITED): _S.BACKING_OFF,
    (_S.BACKING_OFF, _T.SCHEDULED): _S.STARTING,
    (_S.BACKING_OFF, _T.DRAIN_STARTED): _S.GONE,
    (_S.COMPLETED, _T.DRAIN_STARTED): _S.GONE,
    (_S.FAILED, _T.DRAIN_STARTED): _S.GONE,
    (_S.DRAINING, _T.STOP_SENT): _S.STOPPING,
    (_S.DRAINING, _T.EXITED): _S.GONE,
    (_S.STOPPING, _T.STOP_SENT): _S.STOPPING,
    (_S.STOPPING, _T.EXITED): _S.GONE,
}
for _state in (_S.STARTING, _S.READY, _S.UNREADY):
    TRANSITIONS[_state, _T.CONDEMNED] = _S.RESTARTING
for _state in (_S.STARTING, _S.READY, _S.UNREADY, _S.RESTARTING):
    TRANSITIONS |= {(_state, _T.COMPLETED): _S.COMPLETED, (_state, _T.FAILED): _S.FAILED}
"""Every move there is. A pair that is missing means: the trigger comes too late or twice, and changes nothing."""


def after(state: ReplicaState, trigger: Trigger) -> ReplicaState:
    """The state that follows; the same one where the table has no entry."""
    return TRANSITIONS.get((state, trigger), state)


LEAVING = frozenset({ReplicaState.DRAINING, ReplicaState.STOPPING, ReplicaState.GONE})
"""On the way out: counts for nothing any more."""
ENDED = frozenset({ReplicaState.COMPLETED, ReplicaState.FAILED})
"""Has no process and is not started again; counts all the same, so that no other is started in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixAddress:
    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAddress:
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


Address = UnixAddress | TcpAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended, or why it could not start."""

    at: float
    code: int | None = None
    """Exit status; negative: the signal that ended it. None: unknown (its keeper had died), or it never ran."""
    error: str = ""
    """Why it never ran, or what Shoal knows beside the code; one line, with the way out."""
    tail: tuple[str, ...] = ()
    """The last lines of its log, at most 20."""

    @property
    def reason(self) -> str:
        """`exit code 1`, `killed by signal 9`, or the error."""
        if self.error:
            return self.error
        if self.code is None:
            return "ended, exit code unknown"
        if self.code < 0:
            return f"killed by signal {-self.code}"
        return f"exit code {self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One process that we run, over all its attempts."""

    id: str
    """`<service>-r<number>`; never used again after it is gone."""
    service: str
    number: int
    revision: int
    """Of its service, counted from 1."""
    generation: int = 0
    """The restart request that it was started under: `shoal restart` raises the service's, and older replicas are
    replaced."""
    state: ReplicaState = ReplicaState.STARTING
    since: float = 0.0
    """When it entered this state, seconds of the epoch."""
    attempt: int = 1
    """How often it has been started."""
    crashes: int = 0
    """Exits in a row without 60 s of readiness between."""
    strikes: int = 0
    """Those of them that came too early, and what is too many; the exponent of the back-off."""
    pid: int | None = None
    address: Address | None = None
    """Where its process listens for its main port. None: not started, or a worker."""
    ports: tuple[tuple[str, Address], ...] = ()
    """Where it listens for its further ports, by their names."""
    ready_since: float | None = None
    detached_at: float | None = None
    """Since when, draining or restarting, it is out of every snapshot that Envoy may hold."""
    out_at: float | None = None
    """Since when nothing new should be sent to it, though it was ready in this attempt: the time of its requests counts
    from here."""
    requests: int | None = None
    """While it drains: how many it has under way, at most, by Envoy's count. None: nobody could say yet."""
    requests_at: float = 0.0
    """When they were counted."""
    successes: int = 0
    failures: int = 0
    """Readiness probe results in a row."""
    startup_failures: int = 0
    liveness_failures: int = 0
    """In a row."""
    probe_detail: str = ""
    """What the last failed probe said: `connection refused`, `HTTP 503 on /healthz`."""
    doomed: str = ""
    """Why this attempt is ended, while it is RESTARTING: `liveness probe (/livez) failed 3 times in a row: ...`."""
    running_since: float | None = None
    """When this attempt got its process; making its environment may have taken minutes before."""
    late: bool = False
    """It has had a process for long, and has not been ready yet in this attempt."""
    progress: str = ""
    """What its start is waiting for: `installing 14 packages`."""
    last_exit: Exit | None = None
    restart: Restart = Restart.ALWAYS
    stop_signal: str = "SIGTERM"
    started_at: float | None = None
    """When this attempt was asked for."""
    cause: str = ""
    """Why it was."""
    told_at: float | None = None
    """When, wanted as it was, it was told to end."""
    told: str = ""
    """Why it was told so; then this is how it failed."""

    @property
    def leaving(self) -> bool:
        return self.state in LEAVING

    @property
    def runs(self) -> bool:
        """Whether there is, or may be, a process."""
        return self.state not in (ReplicaState.BACKING_OFF, ReplicaState.GONE, *ENDED)


def replica_id(service: str, number: int) -> str:
    return f"{service}-r{number}"
