"""Which other resources a resource leads to: what must be there before it, and may not go before it."""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from shoal.mesh.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Message

Reference = tuple[str, str]
"""(type URL, name)"""


def references(type_url: str, message: Message) -> frozenset[Reference]:
    """Of a cluster: its assignment. Of a listener: its routes, or its cluster. Of routes: their clusters. Of anything
    else: nothing."""
    if type_url == CLUSTER:
        return frozenset(_of_cluster(message))
    if type_url == LISTENER:
        return frozenset(_of_listener(message))
    if type_url == ROUTES:
        return frozenset(_of_routes(message))
    return frozenset()


def _of_cluster(cluster: Message) -> Iterator[Reference]:
    if cluster.type == cluster_pb2.Cluster.EDS:
        yield ENDPOINTS, cluster.eds_cluster_config.service_name or cluster.name


def _of_listener(listener: Message) -> Iterator[Reference]:
    for chain in listener.filter_chains:
        for network_filter in chain.filters:
            tcp = tcp_proxy_pb2.TcpProxy()
            if network_filter.typed_config.Unpack(tcp):
                yield CLUSTER, tcp.cluster
                continue
            manager = http_connection_manager_pb2.HttpConnectionManager()
            if not network_filter.typed_config.Unpack(manager):
                continue
            if manager.HasField("rds"):
                yield ROUTES, manager.rds.route_config_name
            yield from _of_routes(manager.route_config)


def _of_routes(configuration: Message) -> Iterator[Reference]:
    for host in configuration.virtual_hosts:
        for route in host.routes:
            if route.route.cluster:
                yield CLUSTER, route.route.cluster
            for weighted in route.route.weighted_clusters.clusters:
                yield CLUSTER, weighted.name
