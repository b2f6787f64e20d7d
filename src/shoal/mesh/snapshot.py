"""A whole configuration of Envoy at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_T = "type.googleapis.com/envoy.config."
CLUSTER = _T + "cluster.v3.Cluster"
ENDPOINTS = _T + "endpoint.v3.ClusterLoadAssignment"
LISTENER = _T + "listener.v3.Listener"
ROUTES = _T + "route.v3.RouteConfiguration"

TYPES = (CLUSTER, ENDPOINTS, LISTENER, ROUTES)
"""In the order in which Envoy must learn of an addition: make before break."""

Message = Any
"""A protobuf message; xds-protos brings no types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All resources by type and name. A message that did not change is the same object as in the snapshot before, so
    that a sink finds what differs by identity first and only then by content."""

    version: int
    """Grows with every snapshot of this process."""
    resources: Mapping[str, Mapping[str, Message]]
    """type URL -> resource name -> message."""
    replicas: frozenset[str] = field(default_factory=frozenset)
    """Those that are endpoints in it."""
    own: Mapping[str, Mapping[str, Message]] | None = None
    """The resources of the second Envoy, which is in the mesh network (`mesh.sides`). None: there is none."""
    changed: frozenset[str] | None = None
    """The endpoints that are not as in the snapshot of the version before, where nothing else differs from it. None:
    anything may."""
