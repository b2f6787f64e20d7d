"""Calls that are not declared: an answer that names the line to add, and word of it to the control plane."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import config_source_pb2, grpc_service_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2

from shoal.mesh.messages import duration, matching, packed
from shoal.mesh.problems import Problem, answering
from shoal.mesh.snapshot import Message
from shoal.model.app import App, Protocol, Service
from shoal.model.topology import DENIED, EdgeMap

CONTROL_CLUSTER = "xds"
"""The static cluster of Envoy's bootstrap that leads to the control plane."""
DENY_LOG = "deny"
"""The access log's name. One for all: each would hold a stream and a timer of its own in every worker."""
_PREFIX = "deny."
_TCP = ".tcp:"


def denial_routes_name(caller: str) -> str:
    return _PREFIX + caller


def caller_of(routes: str) -> str | None:
    """The caller, from the name of a route that denied it."""
    return routes.removeprefix(_PREFIX) if routes.startswith(_PREFIX) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """An address and port at which a service's calls are denied."""

    caller: Service
    address: str
    port: int
    tcp: tuple[str, ...] = ()
    """Not empty: nobody there speaks HTTP, so that a call is reset; these are the services that it may have meant."""

    @property
    def listener(self) -> str:
        """The listener's name; `denied_by` reads it."""
        name = f"{_PREFIX}{self.caller.name}.{self.address}.{self.port}"
        return f"{name}{_TCP}{','.join(self.tcp)}" if self.tcp else name


def denied_by(listeners: Iterable[str]) -> dict[tuple[str, int], tuple[str, str]]:
    """From the names of all listeners: (address, port) of those that reset -> the caller and the service that it meant;
    of several on the same port the first."""
    found = {}
    for name in listeners:
        start, tcp, callees = name.partition(_TCP)
        if tcp and start.startswith(_PREFIX):
            caller, _, rest = start.removeprefix(_PREFIX).partition(".")
            address, _, port = rest.rpartition(".")
            found[address, int(port)] = (caller, callees.partition(",")[0])
    return found


def denied_addresses(app: App, edges: EdgeMap) -> Iterator[Denied]:
    """All that is to be denied: a caller's deny address on every port of a service that it does not declare, and the
    address of every edge that it declared once (its replicas may still have the old name)."""
    by_name = {service.name: service for service in app.services}
    of_port: dict[int, dict[str, Protocol]] = {}
    for service in app.services:
        for port in service.every_port:
            of_port.setdefault(port.number, {})[service.name] = port.protocol
    for caller in app.services:
        if (caller.name, DENIED) not in edges.edges:
            continue
        address, calls = edges.address(caller.name, DENIED), frozenset(caller.calls)
        for number, everybody in sorted(of_port.items()):
            if not everybody.keys() <= calls:
                yield Denied(caller=caller, address=address, port=number, tcp=_only_tcp(everybody, calls))
    for caller_name, callee_name in sorted(edges.edges):
        once_caller, callee = by_name.get(caller_name), by_name.get(callee_name)
        if once_caller is not None and callee is not None and callee_name not in once_caller.calls:
            address = edges.address(caller_name, callee_name)
            for port in callee.every_port:
                tcp = _only_tcp({callee_name: port.protocol}, frozenset())
                yield Denied(caller=once_caller, address=address, port=port.number, tcp=tcp)


def _only_tcp(services: Mapping[str, Protocol], declared: frozenset[str]) -> tuple[str, ...]:
    """The names that are not declared, where an answer in HTTP would be understood by none of them; else nothing."""
    if any(protocol is not Protocol.TCP and name not in declared for name, protocol in services.items()):
        return ()
    return tuple(sorted(services.keys() - declared))


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
    config = als_pb2.HttpGrpcAccessLogConfig(common_config=_log_config())
    return accesslog_pb2.AccessLog(name="envoy.access_loggers.http_grpc", typed_config=packed(config))


@cache
def tcp_deny_log() -> Message:
    """The same of each connection that is reset."""
    config = als_pb2.TcpGrpcAccessLogConfig(common_config=_log_config())
    return accesslog_pb2.AccessLog(name="envoy.access_loggers.tcp_grpc", typed_config=packed(config))


def _log_config() -> Message:
    return als_pb2.CommonGrpcAccessLogConfig(
        log_name=DENY_LOG,
        transport_api_version=config_source_pb2.ApiVersion.V3,
        grpc_service=grpc_service_pb2.GrpcService(
            envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=CONTROL_CLUSTER)
        ),
        buffer_flush_interval=duration(1.0),
    )
