"""What an event changes in what is observed. Pure but for `observed`, which its one owner passes in to be changed.

Late news is normal: an exit of an attempt that was already replaced, a probe of a replica that drains. The attempt and
the transition table decide; what does not fit changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from shoal.model import event as ev
from shoal.model.replica import ENDED, Replica, ReplicaState, Trigger, after
from shoal.model.world import Observed, Proxy, ProxyState, Routes
from shoal.planner import probing
from shoal.planner.defaults import FORGIVEN, HEALTHY_S
from shoal.planner.healing import crashes_after, ending, lasted, strikes_after
from shoal.planner.releases import release_after

_PENDING_MAX = 32


def fold(observed: Observed, event: ev.Event) -> None:
    match event:
        case ev.ReplicaScheduled():
            _schedule(observed, event)
        case ev.ReplicaForgotten():
            observed.replicas.pop(event.replica, None)
        case (
            ev.ReplicaProgressed()
            | ev.ReplicaStarted()
            | ev.ProbeSucceeded()
            | ev.ProbeFailed()
            | ev.DrainStarted()
            | ev.StopSent()
            | ev.ReplicaExited()
        ):
            replica = observed.replicas.get(event.replica)
            if replica is not None:
                observed.replicas[replica.id] = _moved(replica, event, observed)
        case (
            ev.ProxyReplacementRequested()
            | ev.ProxyReplacementStarted()
            | ev.ProxyReplaced()
            | ev.ProxyReplacementFailed()
        ):
            observed.proxy = _replaced(observed.proxy, event)
        case ev.ProxyScheduled() | ev.ProxyStarted() | ev.ProxyStopSent() | ev.ProxyExited():
            observed.proxy = _proxy(observed.proxy, event)
            if isinstance(event, ev.ProxyExited):
                _nothing_routes(observed, event.at)
        case ev.SnapshotPublished():
            _publish(observed, event)
        case ev.SnapshotApplied():
            _apply(observed, event)
        case ev.ResourceRejected():
            observed.rejected[event.resource] = event.message
            observed.rejected_since.setdefault(event.resource, event.at)
        case ev.RevisionScheduled() | ev.RevisionProgressed() | ev.RevisionPrepared() | ev.RevisionFailed():
            observed.releases[event.service, event.revision] = release_after(
                observed.releases.get((event.service, event.revision)), event
            )
        case ev.TrafficSampled():
            observed.traffic.update({(one.service, one.revision): one for one in event.samples})
            observed.traffic_at = event.at
        case ev.RequestsUnderWay():
            for name, count in event.counts:
                drains = observed.replicas.get(name)
                if drains is not None and drains.state is ReplicaState.DRAINING:
                    observed.replicas[name] = replace(drains, requests=count, requests_at=event.at)
        case (
            ev.CallDenied()
            | ev.RolloutStarted()
            | ev.RolloutAdvanced()
            | ev.RolloutCompleted()
            | ev.RolloutFailed()
            | ev.RolledBack()
            | ev.RolloutSuperseded()
            | ev.Deployed()
            | ev.Scaled()
            | ev.RestartRequested()
            | ev.DownRequested()
            | ev.DaemonStarted()
            | ev.KeeperLost()
            | ev.KeeperAttached()
            | ev.Warned()
        ):
            pass  # they change what is desired, or only tell
        case _:
            assert_never(event)


def _schedule(observed: Observed, event: ev.ReplicaScheduled) -> None:
    old = observed.replicas.get(event.replica)
    if old is None:
        observed.replicas[event.replica] = Replica(
            id=event.replica,
            service=event.service,
            number=event.number,
            revision=event.revision,
            generation=event.generation,
            since=event.at,
            attempt=event.attempt,
            restart=event.restart,
            stop_signal=event.stop_signal,
            started_at=event.at,
            cause=event.reason,
        )
        observed.next_number[event.service] = max(observed.next_number.get(event.service, 1), event.number + 1)
        return
    state = after(old.state, Trigger.SCHEDULED)
    if state is old.state:
        return
    observed.replicas[old.id] = replace(
        old,
        state=state,
        since=event.at,
        attempt=event.attempt,
        started_at=event.at,
        cause=event.reason,
        told_at=None,
        told="",
        pid=None,
        address=None,
        ports=(),
        ready_since=None,
        detached_at=None,
        out_at=None,
        requests=None,
        successes=0,
        failures=0,
        startup_failures=0,
        liveness_failures=0,
        probe_detail="",
        doomed="",
        running_since=None,
        late=False,
        progress="",
    )


_OfReplica = (
    ev.ReplicaProgressed
    | ev.ReplicaStarted
    | ev.ProbeSucceeded
    | ev.ProbeFailed
    | ev.DrainStarted
    | ev.StopSent
    | ev.ReplicaExited
)


def _moved(replica: Replica, event: _OfReplica, observed: Observed) -> Replica:
    match event:
        case ev.ReplicaProgressed():
            return replace(replica, progress=event.message)
        case ev.ReplicaStarted():
            if event.attempt != replica.attempt:
                return replica
            since = replica.running_since if replica.pid == event.pid else None  # the same one: found, not started
            return replace(
                replica,
                pid=event.pid,
                address=event.address,
                ports=event.ports,
                progress="",
                running_since=event.at if since is None else since,
            )
        case ev.ProbeSucceeded():
            if event.attempt != replica.attempt:
                return replica
            seen, trigger = probing.succeeded(replica, event)
            return seen if trigger is None else _to(seen, trigger, event.at)
        case ev.ProbeFailed():
            if event.attempt != replica.attempt or replica.leaving or replica.state is ReplicaState.RESTARTING:
                return replica
            seen, trigger = probing.failed(replica, event)
            if trigger is Trigger.CONDEMNED:
                return replace(_to(seen, trigger, event.at), detached_at=_detached_at(seen, observed, event.at))
            return seen if trigger is None else _to(seen, trigger, event.at)
        case ev.DrainStarted():
            detached = _detached_at(replica, observed, event.at)
            return replace(_to(replica, Trigger.DRAIN_STARTED, event.at), detached_at=detached)
        case ev.StopSent():
            if not replica.leaving:
                return replace(replica, told_at=event.at, told=replica.told or event.reason)
            # Also when it was sent before: `since` counts the time to the next, harder, signal.
            return replace(_to(replica, Trigger.STOP_SENT, event.at), since=event.at)
        case ev.ReplicaExited():
            if event.attempt != replica.attempt or not replica.runs:
                return replica
            told = replica.told or replica.doomed
            end = replace(event.exit, error=told) if told else event.exit
            counts = not replica.leaving and ending(replica.restart, end) is not Trigger.COMPLETED
            crashes = crashes_after(replica, event.at) if counts else replica.crashes
            strikes = (
                strikes_after(replica.strikes, crashes, _ready_s(replica, event.at)) if counts else replica.strikes
            )
            ended = replace(replica, last_exit=end, crashes=crashes, strikes=strikes, pid=None, progress="")
            return _to(ended, Trigger.EXITED if replica.leaving else ending(replica.restart, end), event.at)
        case _:
            assert_never(event)


def _to(replica: Replica, trigger: Trigger, at: float) -> Replica:
    state = after(replica.state, trigger)
    if state is replica.state:
        return replica
    ready_since = at if state is ReplicaState.READY else replica.ready_since
    out_at = None if state is ReplicaState.READY else at if replica.state is ReplicaState.READY else replica.out_at
    crashes, strikes = replica.crashes, replica.strikes
    if state in (ReplicaState.UNREADY, ReplicaState.RESTARTING, ReplicaState.BACKING_OFF, *ENDED):
        if state in (ReplicaState.UNREADY, ReplicaState.RESTARTING):
            # Its back-off is forgiven here: when its process ends, the readiness before is forgotten.
            ready_s = _ready_s(replica, at)
            crashes = 0 if ready_s is not None and ready_s >= HEALTHY_S else crashes
            strikes = max(0, crashes - FORGIVEN) if lasted(strikes, ready_s) else strikes
        ready_since = None
    moved = replace(replica, state=state, since=at, ready_since=ready_since, out_at=out_at)
    return replace(moved, crashes=crashes, strikes=strikes)


def _ready_s(replica: Replica, at: float) -> float | None:
    return None if replica.ready_since is None else at - replica.ready_since


def _detached_at(replica: Replica, observed: Observed, at: float) -> float | None:
    """None: Envoy may still route to it."""
    return None if replica.id in observed.routed else at


def _proxy(proxy: Proxy, event: ev.ProxyScheduled | ev.ProxyStarted | ev.ProxyStopSent | ev.ProxyExited) -> Proxy:
    match event:
        case ev.ProxyScheduled():
            # Whichever is started now is the newest there is.
            begun = replace(proxy, state=ProxyState.STARTING, since=event.at, attempt=event.attempt, pid=None)
            return replace(begun, outdated="", replacing=False)
        case ev.ProxyStarted():
            return replace(proxy, pid=event.pid)
        case ev.ProxyStopSent():
            return replace(proxy, state=ProxyState.STOPPING, since=event.at)
        case ev.ProxyExited():
            if proxy.state is ProxyState.STOPPING:
                return replace(proxy, state=ProxyState.STOPPED, since=event.at, pid=None)
            served_s = event.at - proxy.since if proxy.state is ProxyState.SERVING else None
            crashes = 1 if served_s is not None and served_s >= HEALTHY_S else proxy.crashes + 1
            return replace(
                proxy,
                state=ProxyState.BACKING_OFF,
                since=event.at,
                pid=None,
                crashes=crashes,
                strikes=strikes_after(proxy.strikes, crashes, served_s),
                last_error=event.exit.reason,
                tail=event.exit.tail,
            )
        case _:
            assert_never(event)


def _replaced(
    proxy: Proxy,
    event: ev.ProxyReplacementRequested | ev.ProxyReplacementStarted | ev.ProxyReplaced | ev.ProxyReplacementFailed,
) -> Proxy:
    match event:
        case ev.ProxyReplacementRequested():
            return replace(proxy, outdated=event.reason)
        case ev.ProxyReplacementStarted():
            return replace(proxy, outdated="", replacing=True)
        case ev.ProxyReplaced():
            return replace(proxy, replacing=False, pid=event.pid)
        case ev.ProxyReplacementFailed():
            return replace(proxy, replacing=False)
        case _:
            assert_never(event)


def _publish(observed: Observed, event: ev.SnapshotPublished) -> None:
    pending = (
        *observed.pending,
        Routes(version=event.version, generation=event.generation, replicas=event.replicas),
    )
    if len(pending) > _PENDING_MAX:
        # Merged, not dropped: a replica of a forgotten snapshot might still be routed to.
        first, second, *rest = pending
        pending = (replace(second, replicas=first.replicas | second.replicas), *rest)
    observed.pending = pending


def _apply(observed: Observed, event: ev.SnapshotApplied) -> None:
    observed.rejected = dict(event.rejected)
    observed.rejected_since = {name: observed.rejected_since.get(name, event.at) for name in observed.rejected}
    confirmed = [p for p in observed.pending if p.version <= event.version]
    if not confirmed:
        return
    observed.pending = tuple(p for p in observed.pending if p.version > event.version)
    observed.applied = replace(confirmed[-1], version=event.version, replicas=event.replicas)
    observed.mesh_generation = max(observed.mesh_generation, observed.applied.generation)
    if observed.proxy.state is ProxyState.STARTING:
        observed.proxy = replace(observed.proxy, state=ProxyState.SERVING, since=event.at)
    _detach(observed, event.at)


def _nothing_routes(observed: Observed, at: float) -> None:
    """Without an Envoy nobody is routed to. The next one is given the newest snapshot, so that one is pending again."""
    newest = observed.pending[-1] if observed.pending else observed.applied
    observed.applied = Routes(version=0, generation=0, replicas=frozenset())
    observed.pending = (newest,) if newest.version else ()
    _detach(observed, at)


def _detach(observed: Observed, at: float) -> None:
    leaving = (ReplicaState.DRAINING, ReplicaState.RESTARTING)
    waiting = [r for r in observed.replicas.not_ready.values() if r.state in leaving]
    routed = observed.routed if waiting else frozenset()
    for replica in waiting:
        if replica.detached_at is None and replica.id not in routed:
            observed.replicas[replica.id] = replace(replica, detached_at=at)
