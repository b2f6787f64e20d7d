"""The replicas that Envoy may send requests to, by cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from shoal.mesh.messages import pipe_address, socket_address
from shoal.mesh.routes import REPLICA_METADATA
from shoal.mesh.snapshot import Message
from shoal.model.replica import Address, TcpAddress, UnixAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A replica that is ready."""

    replica: str
    address: Address


def assignment(cluster: str, endpoints: Sequence[Endpoint]) -> Message:
    """A cluster's endpoints, in the order of their replicas' ids. Empty: callers get 503 `no-ready-replica`."""
    ready = sorted(endpoints, key=lambda endpoint: endpoint.replica)
    return endpoint_pb2.ClusterLoadAssignment(
        cluster_name=cluster,
        endpoints=[endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=[_lb_endpoint(e) for e in ready])]
        if ready
        else [],
    )


def _lb_endpoint(endpoint: Endpoint) -> Message:
    namespace, key = REPLICA_METADATA
    metadata = base_pb2.Metadata()
    metadata.filter_metadata[namespace].update({key: endpoint.replica})
    return endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=_address(endpoint.address)), metadata=metadata
    )


def _address(address: Address) -> Message:
    match address:
        case UnixAddress(path=path):
            return pipe_address(path)
        case TcpAddress(host=host, port=port):
            return socket_address(host, port)
        case _:
            assert_never(address)
