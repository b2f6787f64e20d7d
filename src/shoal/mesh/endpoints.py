"""The replicas that Envoy may send requests to, by cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from envoy.config.core.v3 import base_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from shoal.mesh.messages import pipe_address, socket_address
from shoal.mesh.snapshot import Message
from shoal.model.replica import Address, TcpAddress, UnixAddress

REPLICA_METADATA = ("shoal", "replica")
"""Where an endpoint's metadata holds the id of its replica."""
REVISION_METADATA = ("envoy.lb", "revision")
"""And the number of its revision, as text: in the one namespace by which Envoy can choose among endpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A replica that is ready, or was and finishes what it has."""

    replica: str
    address: Address
    revision: int = 0
    """0: none is told."""
    weight: int | None = None
    """Its share of the requests, in proportion to those of the others, at least 1. None: all have the same."""
    draining: bool = False
    """Gets nothing new. It is listed so that Envoy goes on telling how many requests it has."""


def assignment(cluster: str, endpoints: Sequence[Endpoint]) -> Message:
    """A cluster's endpoints, in the order of their replicas' ids. Empty: callers get 503 `no-ready-replica`.

    Those that drain have a priority of their own: beside too few that are healthy, in a panic, Envoy would use them.
    For the same reason there are none without one that is ready.
    """
    whole = sorted(endpoints, key=lambda endpoint: endpoint.replica)
    ready = [_lb_endpoint(one) for one in whole if not one.draining]
    draining = [_lb_endpoint(one) for one in whole if one.draining] if ready else []
    groups = endpoint_components_pb2.LocalityLbEndpoints
    return endpoint_pb2.ClusterLoadAssignment(
        cluster_name=cluster,
        endpoints=[
            groups(lb_endpoints=group, priority=priority) for priority, group in enumerate((ready, draining)) if group
        ],
    )


def _lb_endpoint(endpoint: Endpoint) -> Message:
    metadata = base_pb2.Metadata()
    for (namespace, key), value in (
        (REPLICA_METADATA, endpoint.replica),
        # A tester's header chooses a revision: of those that drain nobody may.
        (REVISION_METADATA, str(endpoint.revision) if endpoint.revision and not endpoint.draining else ""),
    ):
        if value:
            metadata.filter_metadata[namespace].update({key: value})
    built = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=_address(endpoint.address)), metadata=metadata
    )
    if endpoint.draining:
        built.health_status = health_check_pb2.DRAINING
    elif endpoint.weight is not None:
        built.load_balancing_weight.value = endpoint.weight
    return built


def _address(address: Address) -> Message:
    match address:
        case UnixAddress(path=path):
            return pipe_address(path)
        case TcpAddress(host=host, port=port):
            return socket_address(host, port)
        case _:
            assert_never(address)
