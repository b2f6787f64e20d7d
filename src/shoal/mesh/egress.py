"""`egress:` the way from a network of its own to what an app file names outside, and to nothing else.

A caller's proxy is an address of the mesh network (`proxy_address`) that leads by a Unix socket to the Envoy on the
machine's network: there requests to listed places are passed on, `CONNECT host:port` as bytes and `GET http://host/`
as HTTP, and all others are answered 403 with the line to add. Names are resolved where they are known, outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as forward_cluster_pb2
from envoy.extensions.common.dynamic_forward_proxy.v3 import dns_cache_pb2
from envoy.extensions.filters.http.dynamic_forward_proxy.v3 import dynamic_forward_proxy_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from shoal.mesh import defaults
from shoal.mesh.clusters import leading_to
from shoal.mesh.listeners import bytes_to, forward_door
from shoal.mesh.messages import duration, matching, packed, pipe_address
from shoal.mesh.problems import Problem, answering, json_body
from shoal.mesh.sides import door_path
from shoal.mesh.snapshot import Message
from shoal.model.app import App, Network, Service
from shoal.model.topology import EGRESS, EdgeMap

OUTSIDE = "egress"
CLUSTER = f"{OUTSIDE}|outside"
"""Of everything outside. With a mark that no service's name has."""
_WITH_PORT = r".*:[0-9]+"


def restricted(app: App) -> Iterator[Service]:
    """The services whose way out has a list with something on it."""
    return (service for service in app.services if service.egress and service.network is Network.OWN)


def name_of(caller: Service) -> str:
    """Of its listener, door and routes."""
    return f"{OUTSIDE}|{caller.name}"


def near_listeners(app: App, edges: EdgeMap) -> Iterator[Message]:
    """On the callers' side."""
    for caller in restricted(app):
        address = edges.address(caller.name, EGRESS)
        yield bytes_to(name_of(caller), address, defaults.EGRESS_PORT, cluster=name_of(caller))


def near_clusters(app: App, doors: str) -> Iterator[Message]:
    for caller in restricted(app):
        yield leading_to(name_of(caller), pipe_address(_door(caller, doors)))


def far_listeners(app: App, doors: str) -> Iterator[Message]:
    """On the machine's network."""
    config = dynamic_forward_proxy_pb2.FilterConfig(dns_cache_config=_dns())
    for caller in restricted(app):
        yield forward_door(
            name_of(caller),
            _door(caller, doors),
            routes=name_of(caller),
            resolving=packed(config),
            replies=_replies(),
        )


def far_clusters(app: App) -> Iterator[Message]:
    if any(True for _ in restricted(app)):
        built = cluster_pb2.Cluster(
            name=CLUSTER,
            connect_timeout=duration(defaults.CONNECT_OUTSIDE_S),
            lb_policy=cluster_pb2.Cluster.CLUSTER_PROVIDED,
        )
        built.cluster_type.name = "envoy.clusters.dynamic_forward_proxy"
        built.cluster_type.typed_config.CopyFrom(packed(forward_cluster_pb2.ClusterConfig(dns_cache_config=_dns())))
        yield built


def far_routes(app: App, app_file: str) -> Iterator[Message]:
    for caller in restricted(app):
        yield _routes(caller, caller.egress or (), app_file)


def _routes(caller: Service, places: Sequence[str], app_file: str) -> Message:
    name = name_of(caller)
    listed = route_components_pb2.VirtualHost(name="listed", domains=list(dict.fromkeys(_domains(places))))
    tunnel = listed.routes.add(name=name, match=_connect())
    tunnel.route.upgrade_configs.add(
        upgrade_type="CONNECT", connect_config=route_components_pb2.RouteAction.UpgradeConfig.ConnectConfig()
    )
    plain = listed.routes.add(name=name, match=route_components_pb2.RouteMatch(prefix="/"))
    for route in (tunnel, plain):
        route.route.cluster = CLUSTER
        # What is outside has time-outs of its own.
        route.route.timeout.CopyFrom(duration(0))
        route.route.idle_timeout.CopyFrom(duration(defaults.STREAM_IDLE_S))
    other = route_components_pb2.VirtualHost(name="not listed", domains=["*"])
    for suffix, with_port in (("", True), (":80", False)):
        problem = _refusal(caller, places, app_file, suffix)
        for match in (_connect(), route_components_pb2.RouteMatch(prefix="/")):
            if with_port:
                match.headers.add(name=":authority", string_match=matching(_WITH_PORT))
            other.routes.extend(answering(problem, name=name, match=match))
    return route_pb2.RouteConfiguration(name=name, virtual_hosts=[listed, other])


def _refusal(caller: Service, places: Sequence[str], app_file: str, suffix: str) -> Problem:
    line = ", ".join([*places[: defaults.LISTED_MAX], f"%REQ(:AUTHORITY)%{suffix}"])
    return Problem(
        code="egress-denied",
        title="Not on the list",
        status=403,
        detail=f"{caller.name} may not connect to %REQ(:AUTHORITY)%: it is not in its 'egress'",
        way_out=f"add it in {app_file}: services.{caller.name}.egress: [{line}]",
    )


def _connect() -> Message:
    return route_components_pb2.RouteMatch(connect_matcher=route_components_pb2.RouteMatch.ConnectMatcher())


def _domains(places: Iterable[str]) -> Iterator[str]:
    """With the port, as CONNECT has it; a plain request may leave out port 80."""
    for place in places:
        yield place
        if place.endswith(":80"):
            yield place.removesuffix(":80")


def _door(caller: Service, doors: str) -> str:
    return door_path(doors, Network.HOST, name_of(caller))


def _dns() -> Message:
    """The filter's and the cluster's must be the same."""
    return dns_cache_pb2.DnsCacheConfig(name=OUTSIDE, dns_lookup_family=cluster_pb2.Cluster.ALL)


def _replies() -> Message:
    """How Envoy words that what was listed is not to be reached."""
    problem = Problem(
        code="egress-failed",
        title="Not reached",
        status=502,
        detail="%REQ(:AUTHORITY)% cannot be reached from this machine (%RESPONSE_FLAGS%)",
        way_out="see whether its name is known here and it accepts connections: curl -v",
    )
    config = http_connection_manager_pb2.LocalReplyConfig()
    flags = accesslog_pb2.ResponseFlagFilter(flags=["UF", "UH", "UC", "DF", "UT"])
    config.mappers.add(
        filter=accesslog_pb2.AccessLogFilter(response_flag_filter=flags),
        status_code=UInt32Value(value=problem.status),
        body_format_override=json_body(problem),
    )
    return config
