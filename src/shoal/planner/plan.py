"""The one question: given what is wanted and what is there, what should be done next, and why?

Level-triggered and without memory: the same world gives the same plan, so a restarted daemon decides as the one before.
Actions name their reason; what must wait says for what and until when.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from shoal.model import action as act
from shoal.model.replica import ENDED, Replica, ReplicaState
from shoal.model.world import Desired, Observed, ProxyState, Target
from shoal.planner import barriers, jobs, restarting
from shoal.planner.defaults import (
    DETACH_S_MAX,
    DETACHED_S,
    EDGES_S_MAX,
    MIN_HEALTHY_S,
    STOP_S,
    SURGE,
)
from shoal.planner.healing import backoff_s, restarts_at, words
from shoal.planner.steps import Step, Wait, first_start


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    actions: tuple[act.Action, ...] = ()
    waits: tuple[Wait, ...] = ()
    finished: bool = False
    """`down` was asked for and nothing is left."""

    @property
    def wake_at(self) -> float | None:
        """When the earliest wait ends by itself."""
        return min((w.until for w in self.waits if w.until is not None), default=None)


def plan(desired: Desired | None, observed: Observed, now: float) -> Plan:
    """Everything that should be done now. Order: what leaves, what heals, what starts."""
    if desired is None:
        return Plan()
    steps: list[Step] = [*_leaving(observed, now)]
    # Only these are looked at closely: asking each of a thousand services for its replicas is a million comparisons.
    restless = _restless(desired, observed)
    for service in sorted(restless - desired.targets.keys()):
        steps += _drain_all(observed.of(service), "its service was removed from the app")
    for name in desired.targets if restless else ():
        if name in restless:
            there = observed.of(name)
            target = desired.targets[name]
            if desired.down:
                steps += _drain_all([r for r in there if not _is_history(r, desired)], "the app goes down")
            elif target.service.job is not None:
                steps += jobs.keep(target, there, desired, observed, now)
            else:
                steps += _keep(target, [r for r in there if not r.leaving], desired, observed, now)
    steps += _proxy(desired, observed, now)
    actions = tuple(s for s in steps if not isinstance(s, Wait))
    return Plan(
        actions=actions,
        waits=tuple(s for s in steps if isinstance(s, Wait)),
        finished=desired.down
        and _nothing_left(desired, observed)
        and observed.proxy.state in (ProxyState.STOPPED, ProxyState.BACKING_OFF),
    )


def _restless(desired: Desired, observed: Observed) -> set[str]:
    """Services that are not as wanted: of all others, as many replicas as wanted are ready, and there are no more."""
    replicas, targets = observed.replicas, desired.targets
    if desired.down:
        return set(replicas.services)
    if replicas.wanted is not targets:
        replicas.wanted, replicas.unsettled = targets, targets.keys() | replicas.services
    settled = {
        name
        for name in replicas.unsettled
        if (_is_settled(targets[name], replicas.of(name)) if name in targets else name not in replicas.services)
    }
    replicas.unsettled -= settled
    return set(replicas.unsettled)


def _is_settled(target: Target, replicas: list[Replica]) -> bool:
    """By what is wanted and what is there alone: the answer is remembered until either changes."""
    good = all(r.state is ReplicaState.READY and target.is_current(r) for r in replicas)
    return good and len(replicas) == target.replicas and target.service.job is None


def _is_history(replica: Replica, desired: Desired) -> bool:
    """A job's run that has ended: kept, also while the app is down."""
    target = desired.targets.get(replica.service)
    return replica.state in ENDED and target is not None and target.service.job is not None


def _nothing_left(desired: Desired, observed: Observed) -> bool:
    return all(_is_history(replica, desired) for replica in observed.replicas.values())


def _drain_all(replicas: list[Replica], reason: str) -> Iterator[Step]:
    for replica in replicas:
        if not replica.leaving:
            yield act.DrainReplica(replica=replica.id, reason=reason)


def _leaving(observed: Observed, now: float) -> Iterator[Step]:
    """Out of Envoy first, then SIGTERM, then SIGKILL."""
    for replica in sorted(observed.replicas.not_ready.values(), key=lambda one: one.id):
        match replica.state:
            case ReplicaState.DRAINING:
                detached = replica.detached_at
                stop_at = replica.since + DETACH_S_MAX if detached is None else detached + DETACHED_S
                if now < stop_at:
                    waits_for = "Envoy to let go of it" if detached is None else "its last requests to arrive"
                    yield Wait(subject=replica.id, reason=f"drains: waits for {waits_for}", until=stop_at)
                else:
                    reason = (
                        f"Envoy did not confirm its removal within {words(DETACH_S_MAX)}"
                        if detached is None
                        else "drained"
                    )
                    yield act.StopReplica(replica=replica.id, reason=reason)
            case ReplicaState.STOPPING:
                kill_at = replica.since + STOP_S
                if now < kill_at:
                    yield Wait(subject=replica.id, reason=f"stopping: has {replica.stop_signal}", until=kill_at)
                else:
                    late = f"did not end within {words(STOP_S)} of {replica.stop_signal}"
                    yield act.KillReplica(replica=replica.id, reason=late)
            case ReplicaState.GONE:
                yield act.ForgetReplica(replica=replica.id, reason="its process has ended")
            case ReplicaState.READY | ReplicaState.STARTING | ReplicaState.UNREADY:
                pass
            case ReplicaState.RESTARTING | ReplicaState.BACKING_OFF:
                pass
            case ReplicaState.COMPLETED | ReplicaState.FAILED:
                pass
            case _:
                assert_never(replica.state)


def _keep(target: Target, replicas: list[Replica], desired: Desired, observed: Observed, now: float) -> Iterator[Step]:
    """One service: heal what crashed, replace what is old, start what is missing, drain what is too much."""
    name, wanted = target.service.name, target.replicas
    current = [r for r in replicas if target.is_current(r)]
    stale = [r for r in replicas if r not in current]
    surplus = _surplus(current, wanted)

    hopeless = desired.app.dev and any(r.state is ReplicaState.READY for r in stale)
    yield from _heal([r for r in current if r not in surplus], now, hopeless=hopeless)
    for replica in surplus:
        yield act.DrainReplica(replica=replica.id, reason=f"{len(current)} replicas run, {wanted} are wanted")

    missing = wanted - len(current)
    room = wanted + SURGE - len(current) - len(stale) if stale else missing
    starts = max(0, min(missing, room))
    if starts:
        held = _held_back(target, replicas, desired, observed, now)
        if held is not None:
            yield held
        else:
            yield from _start(target, starts, missing, bool(stale), observed)
    if stale:
        settle_s = 0.0 if desired.app.dev else MIN_HEALTHY_S
        yield from _replace(name, wanted, current, stale, now, settle_s)


def _surplus(current: list[Replica], wanted: int) -> list[Replica]:
    """The least useful first: not ready before ready, younger before older."""
    by_use = sorted(current, key=lambda r: (r.state is ReplicaState.READY, -r.number))
    return by_use[: max(0, len(current) - wanted)]


def _heal(replicas: list[Replica], now: float, *, hopeless: bool) -> Iterator[Step]:
    """`hopeless`: what ended stays ended, for an older one serves and only other code can help."""
    for replica in replicas:
        if replica.state is ReplicaState.RESTARTING:
            yield from restarting.restart(replica, now)
        if replica.state is not ReplicaState.BACKING_OFF:
            continue
        at = restarts_at(replica)
        why = replica.last_exit.reason if replica.last_exit else "it ended"
        delay = words(backoff_s(max(1, replica.crashes)))
        if hopeless:
            yield Wait(subject=replica.id, reason=f"{why}; the older one serves until the code changes")
        elif now < at:
            crashes = f" after {replica.crashes} crashes in a row" if replica.crashes > 1 else ""
            yield Wait(subject=replica.id, reason=f"{why}; starts again after a back-off of {delay}{crashes}", until=at)
        else:
            yield act.StartReplica(
                replica=replica.id,
                service=replica.service,
                number=replica.number,
                revision=replica.revision,
                generation=replica.generation,
                attempt=replica.attempt + 1,
                restart=replica.restart,
                stop_signal=replica.stop_signal,
                reason=f"{why}; back-off of {delay} is over",
            )


def _held_back(
    target: Target, replicas: list[Replica], desired: Desired, observed: Observed, now: float
) -> Wait | None:
    """Why nothing of this service may start yet; None when it may."""
    name = target.service.name
    if observed.mesh_generation < desired.generation and now < desired.at + EDGES_S_MAX:
        return Wait(subject=name, reason="waits for Envoy to listen on its edges", until=desired.at + EDGES_S_MAX)
    if replicas:
        return None  # `after:` orders the first start only
    for other in target.service.after:
        reason = barriers.waits_for(target.service.barrier(other), desired.targets.get(other), other, observed)
        if reason:
            return Wait(subject=name, reason=f"after: {reason}")
    return None


def _start(target: Target, starts: int, missing: int, replaces: bool, observed: Observed) -> Iterator[Step]:
    name = target.service.name
    first = observed.next_number.get(name, 1)
    reason = (
        f"replaces an older one by revision {target.revision.number}"
        if replaces
        else f"{missing} of {target.replicas} replicas missing"
    )
    for number in range(first, first + starts):
        yield first_start(target, number, reason)


def _replace(
    name: str, wanted: int, current: list[Replica], stale: list[Replica], now: float, settle_s: float
) -> Iterator[Step]:
    """Start-first: an old replica that serves leaves only when as many as wanted serve without it."""
    settled = 0
    for replica in current:
        if replica.state is ReplicaState.COMPLETED:
            settled += 1
            continue
        if replica.state is not ReplicaState.READY:
            continue
        counts_at = (replica.ready_since or now) + settle_s
        if now < counts_at:
            yield Wait(subject=replica.id, reason=f"ready; counts after {words(settle_s)}", until=counts_at)
        else:
            settled += 1
    serving = [r for r in stale if r.state is ReplicaState.READY]
    for replica in stale:
        if replica.state is not ReplicaState.READY:
            yield act.DrainReplica(replica=replica.id, reason="is of an older revision and does not serve")
    spare = max(0, settled + len(serving) - wanted)
    for replica in serving[:spare]:
        yield act.DrainReplica(replica=replica.id, reason="is replaced: a newer one serves")
    if serving[spare:]:
        yield Wait(subject=name, reason=f"{len(serving) - spare} older replicas serve until newer ones do")


def _proxy(desired: Desired, observed: Observed, now: float) -> Iterator[Step]:
    proxy = observed.proxy
    match proxy.state:
        case ProxyState.STOPPED:
            if not desired.down:
                yield act.StartProxy(attempt=proxy.attempt + 1, reason="the app needs its proxy")
        case ProxyState.BACKING_OFF:
            at = proxy.since + backoff_s(max(1, proxy.crashes))
            if desired.down:
                return
            if now < at:
                yield Wait(subject="proxy", reason=f"{proxy.last_error}; starts again after a back-off", until=at)
            else:
                yield act.StartProxy(attempt=proxy.attempt + 1, reason=f"{proxy.last_error}; back-off is over")
        case ProxyState.STARTING | ProxyState.SERVING:
            if desired.down and _nothing_left(desired, observed):
                yield act.StopProxy(reason="the app goes down, and nothing is left behind it")
            elif proxy.outdated and proxy.state is ProxyState.SERVING and not proxy.replacing and not desired.down:
                yield act.ReplaceProxy(reason=proxy.outdated)
        case ProxyState.STOPPING:
            pass
