"""All parts of a configuration as one snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from shoal.mesh.endpoints import assignment
from shoal.mesh.snapshot import CLUSTER, ENDPOINTS, Message, Snapshot


def assemble(
    static: Mapping[str, Mapping[str, Message]],
    assignments: Mapping[str, Message],
    *,
    version: int,
    replicas: frozenset[str],
) -> Snapshot:
    """`compile_app`'s resources with the assignments of its services, by name. A service that has none yet gets an
    empty one. What is given is passed on as the same objects."""
    endpoints = {service: assignments.get(service) or _empty(service) for service in static[CLUSTER]}
    return Snapshot(version=version, resources={**static, ENDPOINTS: endpoints}, replicas=replicas)


@cache
def _empty(service: str) -> Message:
    return assignment(service, ())
