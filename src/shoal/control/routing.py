"""From what is observed to what Envoy should hold, rebuilding only what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

from shoal.control.own_side import OwnSide
from shoal.control.sharing import Sharing, compared_revisions, sharing, weighed
from shoal.mesh.assemble import assemble
from shoal.mesh.canary import with_canaries
from shoal.mesh.clusters import cluster_name
from shoal.mesh.compile import MeshOptions, compile_app
from shoal.mesh.endpoints import Endpoint, assignment
from shoal.mesh.snapshot import ENDPOINTS, Message, Snapshot
from shoal.model.app import Port, Service
from shoal.model.replica import Address, Replica, ReplicaState
from shoal.model.replicas import Replicas
from shoal.model.topology import EdgeMap
from shoal.model.world import Desired, Observed
from shoal.ports import Drained


class Routing:
    """Remembers the last snapshot, so that what did not change stays the same objects, and looks at what changed alone:
    among a thousand services, an endpoint comes at the cost of one among ten."""

    def __init__(self, options: MeshOptions) -> None:
        self._options = options
        self._generation = -1
        self._compiled: Mapping[str, Mapping[str, Message]] = {}
        self._static: Mapping[str, Mapping[str, Message]] = {}
        self._canaries: Mapping[str, Sharing] = {}
        self._shared: Desired | None = None
        """For which they were found: to ask each of a thousand services costs more than all else of a change."""
        self._seen: tuple[Replicas | None, int] = (None, 0)
        """Whose replicas, after how many changes."""
        self._endpoints: dict[str, tuple[Endpoint, ...]] = {}
        self._assignments: dict[str, Message] = {}
        self._last: Snapshot | None = None
        self._own = OwnSide(options)

    def snapshot(self, desired: Desired, observed: Observed, edges: EdgeMap) -> Snapshot | None:
        """The next snapshot; None when nothing changed since the last one."""
        fresh = desired.generation != self._generation
        if fresh:
            self._compiled = compile_app(desired.app, edges, self._options)
            self._own.compile(desired.app, edges)
            self._generation = desired.generation
        canaries = self._canaries if desired is self._shared else sharing(desired)
        self._shared = desired
        shared = canaries != self._canaries
        services = set(desired.targets) if fresh else self._touched(observed) & desired.targets.keys()
        if shared:
            services |= (canaries.keys() | self._canaries.keys()) & desired.targets.keys()
            self._canaries = canaries
        if fresh or shared:
            compared = compared_revisions(canaries)
            self._static = with_canaries(self._compiled, compared)
            self._own.compare(compared)
        self._seen = (observed.replicas, observed.replicas.changes)
        endpoints = _endpoints(desired, services, observed, canaries)
        if fresh:
            for cluster in self._endpoints.keys() - endpoints.keys():
                del self._endpoints[cluster]
                del self._assignments[cluster]
        relayed = self._own.relay(desired, observed)
        before: set[str] = set()
        after: set[str] = set()
        changed: dict[str, Message] = {}
        for cluster, now in endpoints.items():
            now = self._own.reached(now)
            was = self._endpoints.get(cluster)
            now += _finishing(was or (), now, observed)
            before.update(_routed(was or ()))
            after.update(_routed(now))
            if was != now:
                self._endpoints[cluster] = now
                changed[cluster] = self._assignments[cluster] = assignment(cluster, now)
        fresh = fresh or shared
        if not (changed or fresh or relayed):
            return None
        self._last = self._next(self._last, before, after, {} if fresh else changed, fresh=fresh)
        return self._last

    def drained(self, desired: Desired, observed: Observed) -> list[Drained]:
        """The draining replicas of whose requests Envoy can tell the number, as far as the last snapshot goes."""
        found = []
        for replica in observed.replicas.not_ready.values():
            if replica.state is not ReplicaState.DRAINING or replica.out_at is None:
                continue
            target = desired.targets.get(replica.service)
            clusters = [cluster_name(target.service, port) for port in target.service.every_port] if target else []
            listed = [
                str(one.address).removeprefix("unix:")
                for cluster in clusters
                for one in self._endpoints.get(cluster, ())
                if one.replica == replica.id and one.draining
            ]
            if listed or not any(r.state is ReplicaState.READY for r in observed.of(replica.service)):
                found.append(Drained(replica=replica.id, service=replica.service, addresses=frozenset(listed)))
        return found

    def _next(
        self, last: Snapshot | None, before: Set[str], after: Set[str], changed: Mapping[str, Message], *, fresh: bool
    ) -> Snapshot:
        """`before`, `after`: replicas that were and are endpoints, of the services that were looked at."""
        if last is None or fresh:
            version = last.version + 1 if last is not None else 1
            replicas = frozenset(name for group in self._endpoints.values() for name in _routed(group))
            following = assemble(self._static, self._assignments, version=version, replicas=replicas)
        else:
            fetched = last.resources[ENDPOINTS]
            changed = {name: message for name, message in changed.items() if name in fetched}
            following = replace(
                last,
                version=last.version + 1,
                resources={**last.resources, ENDPOINTS: {**fetched, **changed}},
                replicas=(last.replicas - before) | after,
                changed=frozenset(changed),
            )
        return replace(following, own=self._own.resources(self._assignments))

    def _touched(self, observed: Observed) -> set[str]:
        """Services of which a replica is another than last time."""
        whose, changes = self._seen
        replicas = observed.replicas
        return set(replicas.changed_since(changes) if whose is replicas else replicas.services)


def _routed(endpoints: Sequence[Endpoint]) -> Iterator[str]:
    return (endpoint.replica for endpoint in endpoints if not endpoint.draining)


def _finishing(was: Sequence[Endpoint], ready: Sequence[Endpoint], observed: Observed) -> tuple[Endpoint, ...]:
    """Those that drain and were listed until now: one that came anew would begin at no requests in Envoy's count."""
    if not ready:
        return ()
    there = {endpoint.replica for endpoint in ready}
    states = {e.replica: r.state for e in was if (r := observed.replicas.get(e.replica)) is not None}
    return tuple(
        replace(endpoint, draining=True, weight=None)
        for endpoint in was
        if endpoint.replica not in there and states.get(endpoint.replica) is ReplicaState.DRAINING
    )


def _endpoints(
    desired: Desired, services: Set[str], observed: Observed, canaries: Mapping[str, Sharing]
) -> dict[str, tuple[Endpoint, ...]]:
    """Ready replicas by cluster, for every port of these services that we run; an empty tuple where there is none."""
    found: dict[str, tuple[Endpoint, ...]] = {}
    for name in services:
        service = desired.targets[name].service
        if service.is_external:
            continue
        ready = [replica for replica in observed.of(name) if replica.state is ReplicaState.READY]
        for port in service.every_port:
            reached = [(replica, _address_of(replica, service, port)) for replica in ready]
            # A replica of an older revision does not have every port.
            there = [
                Endpoint(replica=replica.id, address=address, revision=replica.revision)
                for replica, address in reached
                if address is not None
            ]
            found[cluster_name(service, port)] = weighed(there, canaries.get(name))
    return found


def _address_of(replica: Replica, service: Service, port: Port) -> Address | None:
    return replica.address if port.number == service.port else dict(replica.ports).get(port.name)
