"""All parts of a configuration as one snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from envoy.config.cluster.v3 import cluster_pb2

from shoal.mesh.endpoints import assignment
from shoal.mesh.snapshot import CLUSTER, ENDPOINTS, Message, Snapshot


def assemble(
    static: Mapping[str, Mapping[str, Message]],
    assignments: Mapping[str, Message],
    *,
    version: int,
    replicas: frozenset[str],
) -> Snapshot:
    """`compile_app`'s resources with the assignments of its clusters, by name. A cluster that has none yet gets an
    empty one. What is given is passed on as the same objects."""
    named = {
        cluster.eds_cluster_config.service_name or name
        for name, cluster in static[CLUSTER].items()
        if cluster.type == cluster_pb2.Cluster.EDS
    }
    endpoints = {name: assignments.get(name) or _empty(name) for name in sorted(named)}
    return Snapshot(version=version, resources={**static, ENDPOINTS: endpoints}, replicas=replicas)


@cache
def _empty(cluster: str) -> Message:
    return assignment(cluster, ())
