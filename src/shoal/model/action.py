"""What to do next: imperative, frozen, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from shoal.model.app import Restart
from shoal.model.rollout import RolloutTrigger
from shoal.model.verdict import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class _Action:
    reason: str
    """For `explain`, `plan` and the journal: `1 of 3 replicas missing`, `exit code 1, back-off of 400 ms is over`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReplica(_Action):
    """Starts a new replica (attempt 1) or the next attempt of one that ended."""

    replica: str
    service: str
    number: int
    revision: int
    generation: int
    attempt: int
    restart: Restart = Restart.ALWAYS
    stop_signal: str = "SIGTERM"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareRevision(_Action):
    """Makes its environment and its build, before its first replica."""

    service: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRollout(_Action):
    """Takes a service's rollout on, or back: a change of what is desired, by the table in `model.rollout`."""

    service: str
    trigger: RolloutTrigger
    settled: int = 0
    """With PROGRESSED: how many replicas are settled now."""
    comparison: Comparison | None = None
    """With JUDGED: as it is now."""
    tail: tuple[str, ...] = ()
    """With FAILED: the last lines that say more, at most 20."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReplica(_Action):
    """Takes it out of the endpoints, for good. Its process goes on."""

    replica: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReplica(_Action):
    """Sends its stop signal, SIGTERM unless the app file has another. Only ever after Envoy confirmed that it no longer
    routes to it, or had its time to."""

    replica: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KillReplica(_Action):
    """SIGKILL to its whole process group: SIGTERM had its time."""

    replica: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetReplica(_Action):
    """Drops the record of one that is gone."""

    replica: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartProxy(_Action):
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceProxy(_Action):
    """Starts another Envoy that takes over the sockets and the work of the one that runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopProxy(_Action):
    pass


Action = (
    StartReplica
    | PrepareRevision
    | MoveRollout
    | DrainReplica
    | StopReplica
    | KillReplica
    | ForgetReplica
    | StartProxy
    | ReplaceProxy
    | StopProxy
)
