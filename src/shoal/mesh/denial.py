"""Calls that are not declared: an answer that names the line to add, and word of it to the control plane."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import config_source_pb2, grpc_service_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2

from shoal.mesh.messages import duration, matching, packed
from shoal.mesh.problems import Problem, answering
from shoal.mesh.snapshot import Message
from shoal.model.app import App, Service
from shoal.model.topology import DENIED, EdgeMap

CONTROL_CLUSTER = "xds"
"""The static cluster of Envoy's bootstrap that leads to the control plane."""
DENY_LOG = "deny"
"""The access log's name. One for all: each would hold a stream and a timer of its own in every worker."""
_PREFIX = "deny."


def denial_routes_name(caller: str) -> str:
    return _PREFIX + caller


def caller_of(routes: str) -> str | None:
    """The caller, from the name of a route that denied it."""
    return routes.removeprefix(_PREFIX) if routes.startswith(_PREFIX) else None


def denied_addresses(app: App, edges: EdgeMap) -> Iterator[tuple[Service, str, int]]:
    """(caller, address, port) of all that is to be denied: a caller's deny address on every port of a service that it
    does not declare, and the address of every edge that it declared once (its replicas may still have the old name)."""
    by_name = {service.name: service for service in app.services}
    ports = {service.name: service.port for service in app.services if service.port is not None}
    everything = sorted(set(ports.values()))
    of_port: dict[int, int] = {}
    for port in ports.values():
        of_port[port] = of_port.get(port, 0) + 1
    for caller in app.services:
        if (caller.name, DENIED) not in edges.edges:
            continue
        declared: dict[int, int] = {}
        for callee in set(caller.calls):
            callee_port = ports.get(callee)
            if callee_port is not None:
                declared[callee_port] = declared.get(callee_port, 0) + 1
        address = edges.address(caller.name, DENIED)
        for port in everything:
            if declared.get(port, 0) < of_port[port]:
                yield caller, address, port
    for caller_name, callee in sorted(edges.edges):
        once_caller, port_then = by_name.get(caller_name), ports.get(callee)
        if once_caller is not None and port_then is not None and callee not in once_caller.calls:
            yield once_caller, edges.address(caller_name, callee), port_then


def denial_routes(caller: Service, app_file: str) -> Message:
    """Every request is answered 403 (PERMISSION_DENIED to gRPC). A name that leads here is a service's, because only
    the caller's hosts file leads here; other Host headers come from people who try things."""
    name = denial_routes_name(caller.name)
    calls = ", ".join([*caller.calls, "%REQ(:AUTHORITY)%"])
    named = Problem(
        code="call-denied",
        title="Call denied",
        status=403,
        detail=f"{caller.name} may not call %REQ(:AUTHORITY)%: it is not declared",
        way_out=f"add it in {app_file}: services.{caller.name}.calls: [{calls}]",
    )
    other = Problem(
        code="call-denied",
        title="Call denied",
        status=403,
        detail=f"{caller.name} called an address that stands for services it has not declared",
        way_out=f"call a service by its name, and declare it in {app_file}: services.{caller.name}.calls",
    )
    by_name = route_components_pb2.RouteMatch(prefix="/")
    by_name.headers.add(name=":authority", string_match=matching("[a-z0-9-]+"))
    host = route_components_pb2.VirtualHost(name=name, domains=["*"])
    host.routes.extend(answering(named, name=name, match=by_name))
    host.routes.extend(answering(other, name=name, match=route_components_pb2.RouteMatch(prefix="/")))
    return route_pb2.RouteConfiguration(name=name, virtual_hosts=[host])


@cache
def deny_log() -> Message:
    """Tells the control plane of each denied call, over the connection that its configuration comes by."""
    config = als_pb2.HttpGrpcAccessLogConfig(
        common_config=als_pb2.CommonGrpcAccessLogConfig(
            log_name=DENY_LOG,
            transport_api_version=config_source_pb2.ApiVersion.V3,
            grpc_service=grpc_service_pb2.GrpcService(
                envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=CONTROL_CLUSTER)
            ),
            buffer_flush_interval=duration(1.0),
        )
    )
    return accesslog_pb2.AccessLog(name="envoy.access_loggers.http_grpc", typed_config=packed(config))
