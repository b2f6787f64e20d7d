"""From what is observed to what Envoy should hold, rebuilding only what changed."""

from __future__ import annotations

from shoal.mesh.assemble import assemble
from shoal.mesh.compile import MeshOptions, compile_app
from shoal.mesh.endpoints import Endpoint, assignment
from shoal.mesh.snapshot import Message, Snapshot
from shoal.model.replica import ReplicaState
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
        for service in [*endpoints, *self._endpoints]:
            now = endpoints.get(service)
            if now is None:
                self._assignments.pop(service, None)
            elif self._endpoints.get(service) != now:
                self._assignments[service] = assignment(service, now)
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
    """Ready replicas by service, for every service with a port; an empty tuple where there is none."""
    found: dict[str, list[Endpoint]] = {
        name: [] for name, target in desired.targets.items() if target.service.port is not None
    }
    for replica in sorted(observed.replicas.values(), key=lambda r: r.number):
        if replica.state is ReplicaState.READY and replica.address is not None and replica.service in found:
            found[replica.service].append(Endpoint(replica=replica.id, address=replica.address))
    return {name: tuple(endpoints) for name, endpoints in found.items()}
