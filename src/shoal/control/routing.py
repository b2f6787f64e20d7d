"""From what is observed to what Envoy should hold, rebuilding only what changed."""

from __future__ import annotations

from shoal.mesh.assemble import assemble
from shoal.mesh.clusters import cluster_name
from shoal.mesh.compile import MeshOptions, compile_app
from shoal.mesh.endpoints import Endpoint, assignment
from shoal.mesh.snapshot import Message, Snapshot
from shoal.model.app import Port, Service
from shoal.model.replica import Address, Replica, ReplicaState
from shoal.model.topology import EdgeMap
from shoal.model.world import Desired, Observed


class Routing:
    """Remembers the messages of the last snapshot, so that unchanged ones stay the same objects."""

    def __init__(self, options: MeshOptions) -> None:
        self._options = options
        self._generation = -1
        self._static: dict[str, dict[str, Message]] = {}
        self._endpoints: dict[str, tuple[Endpoint, ...]] = {}
        self._assignments: dict[str, Message] = {}
        self._version = 0

    def snapshot(self, desired: Desired, observed: Observed, edges: EdgeMap) -> Snapshot | None:
        """The next snapshot; None when nothing changed since the last one."""
        changed = False
        if desired.generation != self._generation:
            self._static = compile_app(desired.app, edges, self._options)
            self._generation = desired.generation
            changed = True
        endpoints = _endpoints(desired, observed)
        for cluster in [*endpoints, *self._endpoints]:
            now = endpoints.get(cluster)
            if now is None:
                self._assignments.pop(cluster, None)
            elif self._endpoints.get(cluster) != now:
                self._assignments[cluster] = assignment(cluster, now)
            else:
                continue
            changed = True
        self._endpoints = endpoints
        if not changed:
            return None
        self._version += 1
        replicas = frozenset(e.replica for group in endpoints.values() for e in group)
        return assemble(self._static, self._assignments, version=self._version, replicas=replicas)


def _endpoints(desired: Desired, observed: Observed) -> dict[str, tuple[Endpoint, ...]]:
    """Ready replicas by cluster, for every port of a service that we run; an empty tuple where there is none."""
    ready: dict[str, list[Replica]] = {name: [] for name in desired.targets}
    for replica in sorted(observed.replicas.values(), key=lambda r: r.number):
        if replica.state is ReplicaState.READY and replica.service in ready:
            ready[replica.service].append(replica)
    found: dict[str, tuple[Endpoint, ...]] = {}
    for name, target in desired.targets.items():
        if target.service.is_external:
            continue
        for port in target.service.every_port:
            reached = [(replica.id, _address_of(replica, target.service, port)) for replica in ready[name]]
            # A replica of an older revision does not have every port.
            found[cluster_name(target.service, port)] = tuple(
                Endpoint(replica=replica, address=address) for replica, address in reached if address is not None
            )
    return found


def _address_of(replica: Replica, service: Service, port: Port) -> Address | None:
    return replica.address if port.number == service.port else dict(replica.ports).get(port.name)
