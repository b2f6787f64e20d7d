"""All parts of a configuration as one snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from envoy.config.cluster.v3 import cluster_pb2

from shoal.mesh.endpoints import assignment
from shoal.mesh.snapshot import CLUSTER, ENDPOINTS, Message, Snapshot


def assemble(
    static: Mapping[str, Mapping[str, Message]],
    assignments: Mapping[str, Message],
    names: Sequence[str] | None = None,
    *,
    version: int,
    replicas: frozenset[str],
) -> Snapshot:
    """`compile_app`'s resources with the assignments of its clusters, by name. A cluster that has none yet gets an
    empty one. What is given is passed on as the same objects. `names`: `assignment_names(static)`, for those who
    assemble the same again and again."""
    wanted = assignment_names(static) if names is None else names
    endpoints = {name: assignments.get(name) or _empty(name) for name in wanted}
    return Snapshot(version=version, resources={**static, ENDPOINTS: endpoints}, replicas=replicas)


def assignment_names(static: Mapping[str, Mapping[str, Message]]) -> tuple[str, ...]:
    """Of the assignments that its clusters fetch, in order."""
    named = {
        cluster.eds_cluster_config.service_name or name
        for name, cluster in static[CLUSTER].items()
        if cluster.type == cluster_pb2.Cluster.EDS
    }
    return tuple(sorted(named))


@cache
def _empty(cluster: str) -> Message:
    return assignment(cluster, ())
