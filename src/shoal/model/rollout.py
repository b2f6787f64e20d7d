"""The change of a service from one revision to the next, and the one table of how it may go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shoal.model.policy import Strategy
from shoal.model.revision import Revision
from shoal.model.verdict import Comparison


class RolloutState(StrEnum):
    """Where a rollout is. At most one rollout of a service is under way."""

    PREPARING = "preparing"
    """Its environment, its build and its migration are made. No replica of it runs."""
    CANARY = "canary"
    """Gets the share of requests of its step, and is judged."""
    ROLLING = "rolling"
    """Replaces what is old."""
    ROLLING_BACK = "rolling-back"
    """Has failed; the old revision is wanted again, and takes back its place."""
    COMPLETED = "completed"
    """Nothing old is left."""
    ROLLED_BACK = "rolled-back"
    """Has failed, and all is as before."""
    FAILED = "failed"
    """Has failed, and there was nothing to return to: its replicas are tried again and again."""
    SUPERSEDED = "superseded"
    """A newer deploy of the service came before its end."""


class RolloutTrigger(StrEnum):
    PREPARED = "prepared"
    """For a rolling one."""
    PREPARED_CANARY = "prepared, canary first"
    STEPPED = "stepped"
    """A canary enters its next step, by its verdict or by a person."""
    PROMOTED = "promoted"
    """By its verdict, or by a person."""
    PROGRESSED = "progressed"
    """One more replica than ever before is ready and settled: its deadline begins anew."""
    JUDGED = "judged"
    """What it answers was compared with what the old one does, and it did not fail; or is compared from now on."""
    REPLACED = "replaced"
    """As many new replicas as wanted are ready and settled, and none is old."""
    FAILED = "failed"
    """And there is an older revision to return to. Also: aborted by a person."""
    FAILED_ALONE = "failed, with nothing to return to"
    RESTORED = "restored"
    """As many old replicas as wanted are ready, and none is new."""
    SUPERSEDED = "superseded"


_S, _T = RolloutState, RolloutTrigger

ROLLOUT_TRANSITIONS: dict[tuple[RolloutState, RolloutTrigger], RolloutState] = {
    (_S.PREPARING, _T.PREPARED): _S.ROLLING,
    (_S.PREPARING, _T.PREPARED_CANARY): _S.CANARY,
    (_S.CANARY, _T.PROMOTED): _S.ROLLING,
    (_S.ROLLING, _T.REPLACED): _S.COMPLETED,
    (_S.ROLLING_BACK, _T.RESTORED): _S.ROLLED_BACK,
    (_S.ROLLING_BACK, _T.FAILED_ALONE): _S.FAILED,
    # What is tried again and again may come up in the end: a database is there, a disk has room.
    (_S.FAILED, _T.REPLACED): _S.COMPLETED,
    (_S.FAILED, _T.RESTORED): _S.ROLLED_BACK,
}
for _state in (_S.PREPARING, _S.CANARY, _S.ROLLING):
    ROLLOUT_TRANSITIONS |= {(_state, _T.FAILED): _S.ROLLING_BACK, (_state, _T.FAILED_ALONE): _S.FAILED}
for _state in (_S.PREPARING, _S.CANARY, _S.ROLLING, _S.ROLLING_BACK):
    ROLLOUT_TRANSITIONS[_state, _T.SUPERSEDED] = _S.SUPERSEDED
for _state in (_S.CANARY, _S.ROLLING, _S.ROLLING_BACK):
    ROLLOUT_TRANSITIONS[_state, _T.PROGRESSED] = _state
for _state in (_S.CANARY, _S.ROLLING):
    ROLLOUT_TRANSITIONS[_state, _T.JUDGED] = _state
ROLLOUT_TRANSITIONS[_S.CANARY, _T.STEPPED] = _S.CANARY

ENDED_ROLLOUTS = frozenset({_S.COMPLETED, _S.ROLLED_BACK, _S.FAILED, _S.SUPERSEDED})


UNDER_WAY = frozenset(set(_S) - ENDED_ROLLOUTS)


def rollout_after(state: RolloutState, trigger: RolloutTrigger) -> RolloutState:
    """The state that follows; the same one where the table has no entry."""
    return ROLLOUT_TRANSITIONS.get((state, trigger), state)


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryStep:
    percent: float
    """Share of the requests that goes to the new revision, more than 0 and less than 100."""
    samples_min: int = 100
    """Requests that the new revision must have answered in this step before it passes; fewer: inconclusive."""
    wait_s: float = 30.0
    """How long the step lasts at least."""
    wait_s_max: float = 600.0
    """How long it waits for `samples_min`; then the rollout stands until a person promotes or aborts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """What a rollout returns to when it fails: the last revision of the service that was completely rolled out, with
    all of its spec."""

    revision: Revision
    generation: int
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The change of a service to a revision, or to new replicas of the same one. A part of what is desired: it is
    stored with it, and whoever plans next goes on where it stands."""

    cause: str
    """`deploy 4`, `restart`, `rollback`."""
    revision: int
    generation: int
    """It leads to replicas of these; while it rolls back, the target has those of `fallback` again."""
    state: RolloutState
    since: float
    started_at: float
    progressed_at: float
    """When it entered its state, or one more replica than before had settled: the deadline counts from here."""
    fallback: Fallback | None = None
    """None: nothing of the service was ever rolled out completely."""
    settled: int = 0
    """Replicas of the wanted kind that were ready and settled at the same time, at most, in this state."""
    reason: str = ""
    """Why it failed, or is where it is; empty while all goes well."""
    tail: tuple[str, ...] = ()
    """With `reason`: the last lines that say more, at most 20."""
    strategy: Strategy = Strategy.ROLLING
    steps: tuple[CanaryStep, ...] = ()
    """Of a canary."""
    step: int = 0
    """Which of `steps` it is in."""
    comparison: Comparison | None = None
    """With the revision before it. None: it has answered nothing yet, or there is none."""
    looks: int = 0
    """How often it was judged, in all its steps."""
    auto: bool = True
    """Whether a canary's good verdict takes it on; a bad one always takes it back."""
    refused_before: tuple[str, ...] = ()
    """Resources that Envoy refused when it began: not its fault."""

    @property
    def under_way(self) -> bool:
        return self.state not in ENDED_ROLLOUTS

    @property
    def went_wrong(self) -> bool:
        return self.state in (RolloutState.ROLLING_BACK, RolloutState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a rollout to a revision ended: kept for `shoal revisions`."""

    revision: int
    state: RolloutState
    at: float
    reason: str = ""
    tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPlan:
    """How one deploy rolls its changes out, whatever the app file says of its services."""

    strategy: Strategy = Strategy.CANARY
    percents: tuple[float, ...] = ()
    """As `CanaryPolicy.percents`. Empty: as each service has it."""
    auto: bool | None = None
    """As `CanaryPolicy.auto`. None: as each service has it."""


class ReleaseState(StrEnum):
    """What was made of a revision before its first replica."""

    PREPARING = "preparing"
    PREPARED = "prepared"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The making of a revision: environment, build, migration. Observed, not stored: the engine remembers what is made
    and says so at once when it is asked again."""

    service: str
    revision: int
    state: ReleaseState
    since: float
    progress: str = ""
    """`installing 14 packages`"""
    error: str = ""
    """Why it failed, in one line with the way out."""
    tail: tuple[str, ...] = ()
    """The last lines of the failed step's log, at most 20."""
    failures: int = 0
    """In a row."""
