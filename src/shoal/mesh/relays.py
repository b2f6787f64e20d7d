"""Ways to replicas that listen on 127.0.0.1 of their own network alone.

Envoy can enter a replica's network to connect from there, but the network is a setting of the whole cluster. So each
such replica has a cluster of its own, and a Unix socket that leads to it; that socket is its endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from shoal.mesh import defaults
from shoal.mesh.listeners import inner_door_for_bytes
from shoal.mesh.messages import duration, socket_address
from shoal.mesh.snapshot import CLUSTER, LISTENER, Message

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    replica: str
    path: str
    pid: int
    """Of a process in its network."""
    port: int

    @property
    def name(self) -> str:
        return f"relay.{self.replica}.{self.pid}"


def with_relays(
    static: Mapping[str, Mapping[str, Message]], relays: Sequence[Relay]
) -> Mapping[str, Mapping[str, Message]]:
    """`compile_app`'s resources of the OWN side, and the relays beside them."""
    more = {
        CLUSTER: {relay.name: _cluster(relay) for relay in relays},
        LISTENER: {relay.name: inner_door_for_bytes(relay.name, relay.path, cluster=relay.name) for relay in relays},
    }
    return {kind: {**known, **more.get(kind, {})} for kind, known in static.items()}


def _cluster(relay: Relay) -> Message:
    inside = address_pb2.SocketAddress(
        address=LOOPBACK, port_value=0, network_namespace_filepath=f"/proc/{relay.pid}/ns/net"
    )
    endpoint = endpoint_components_pb2.Endpoint(address=socket_address(LOOPBACK, relay.port))
    return cluster_pb2.Cluster(
        name=relay.name,
        type=cluster_pb2.Cluster.STATIC,
        connect_timeout=duration(defaults.CONNECT_TIMEOUT_S),
        upstream_bind_config=address_pb2.BindConfig(source_address=inside),
        load_assignment=endpoint_pb2.ClusterLoadAssignment(
            cluster_name=relay.name,
            endpoints=[
                endpoint_components_pb2.LocalityLbEndpoints(
                    lb_endpoints=[endpoint_components_pb2.LbEndpoint(endpoint=endpoint)]
                )
            ],
        ),
    )
