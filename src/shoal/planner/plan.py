"""The one question: given what is wanted and what is there, what should be done next, and why?

Level-triggered and without memory: the same world gives the same plan, so a restarted daemon decides as the one before.
Actions name their reason; what must wait says for what and until when.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shoal.model import action as act
from shoal.model.replica import Replica, ReplicaState
from shoal.model.world import Desired, Observed, ProxyState, Target
from shoal.planner import jobs
from shoal.planner.going_down import go_down, is_history
from shoal.planner.healing import backoff_s
from shoal.planner.leaving import leaving
from shoal.planner.rollout import roll, unsettled
from shoal.planner.steps import Step, Wait


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
    steps: list[Step] = [*leaving(desired, observed, now)]
    # Only these are looked at closely: asking each of a thousand services for its replicas is a million comparisons.
    restless = _restless(desired, observed)
    for service in sorted(restless - desired.targets.keys()):
        steps += _drain_all(observed.of(service), "its service was removed from the app")
    if desired.down:
        steps += go_down(desired, observed, now)
        restless = set()
    for name in desired.targets if restless else ():
        if name in restless:
            there = observed.of(name)
            target = desired.targets[name]
            if target.service.job is not None:
                steps += jobs.keep(target, there, desired, observed, now)
            else:
                steps += roll(target, there, desired, observed, now)
    steps += _proxy(desired, observed, now)
    actions: list[act.Action] = [s for s in steps if not isinstance(s, Wait)]
    # Moves change what is desired, perhaps of other services too: all else was decided for what is desired now.
    actions.sort(key=lambda action: isinstance(action, act.MoveRollout))
    return Plan(
        actions=tuple(actions),
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
    return good and len(replicas) == target.replicas and target.service.job is None and not unsettled(target)


def _nothing_left(desired: Desired, observed: Observed) -> bool:
    return all(is_history(replica, desired) for replica in observed.replicas.values())


def _drain_all(replicas: list[Replica], reason: str) -> Iterator[Step]:
    for replica in replicas:
        if not replica.leaving:
            yield act.DrainReplica(replica=replica.id, reason=reason)


def _proxy(desired: Desired, observed: Observed, now: float) -> Iterator[Step]:
    proxy = observed.proxy
    match proxy.state:
        case ProxyState.STOPPED:
            if not desired.down:
                yield act.StartProxy(attempt=proxy.attempt + 1, reason="the app needs its proxy")
        case ProxyState.BACKING_OFF:
            at = proxy.since + backoff_s(proxy.strikes)
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
