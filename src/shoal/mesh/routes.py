"""Routes to services: how long a request may take, and when it is tried again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from shoal.mesh import defaults
from shoal.mesh.clusters import cluster_name, grpc_cluster_name, usual_cluster_name
from shoal.mesh.messages import containing, duration, matching, packed, set_header
from shoal.mesh.problems import Problem, answering, is_grpc
from shoal.mesh.sides import Door
from shoal.mesh.snapshot import Message
from shoal.model.app import App, External, Gateway, Port, Protocol, Route, Service

GATEWAY = "gateway"
MESH = "mesh"
REPLICA_HEADER = "x-shoal-replica"
REPLICA_METADATA = ("shoal", "replica")
"""Where an endpoint's metadata holds the id of its replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long things may take, in seconds."""

    request: float = defaults.REQUEST_TIMEOUT_S
    idle: float = defaults.STREAM_IDLE_S


def service_routes_name(service: Service, port: Port) -> str:
    """The route configuration of a service's port: where it is published and every edge to it share one."""
    return f"service.{cluster_name(service, port)}"


def service_routes(service: Service, times: Times) -> Iterator[Message]:
    """Of each of its ports that has routes."""
    for port in service.every_port:
        if port.protocol is not Protocol.TCP:
            host = route_components_pb2.VirtualHost(name=service.name, domains=["*"])
            _send_to(host, service, port, route_components_pb2.RouteMatch(prefix="/"), times)
            yield _configuration(service_routes_name(service, port), [host])


def mesh_routes(services: Iterable[Service], times: Times) -> Message:
    """The main port of every service by its name in the Host header, with or without a port."""
    hosts = []
    names = []
    for service in services:
        main = service.every_port[0]
        if main.protocol is Protocol.TCP:
            continue
        host = route_components_pb2.VirtualHost(name=service.name, domains=[service.name])
        _send_to(host, service, main, route_components_pb2.RouteMatch(prefix="/"), times)
        hosts.append(host)
        names.append(service.name)
    unknown = Problem(
        code="no-such-service",
        title="No such service",
        status=404,
        detail="no service is called %REQ(:AUTHORITY)%",
        way_out=f"call one of: {_listed(names)}",
    )
    hosts.append(_fallback(unknown))
    return _configuration(MESH, hosts)


def gateway_routes(app: App, gateway: Gateway, times: Times) -> Message:
    """A host's own routes come before those without a host; among each, the longest path wins."""
    for_any = _longest_first(route for route in gateway.routes if route.host is None)
    hosts = []
    for name in sorted({route.host.lower() for route in gateway.routes if route.host is not None}):
        own = _longest_first(route for route in gateway.routes if route.host is not None and route.host.lower() == name)
        hosts.append(_gateway_host(app, name, [name], [*own, *for_any], times))
    hosts.append(_gateway_host(app, "any host", ["*"], for_any, times))
    return _configuration(GATEWAY, hosts)


def _gateway_host(app: App, name: str, domains: list[str], routes: Sequence[Route], times: Times) -> Message:
    host = route_components_pb2.VirtualHost(name=name, domains=domains)
    for route in routes:
        service = app.service(route.service)
        port = next(p for p in service.every_port if p.name == route.port or not route.port)
        _send_to(host, service, port, _below(route.path), times, route)
    unknown = Problem(
        code="no-route",
        title="No route",
        status=404,
        detail="the gateway has no route for this path",
        way_out=f"known paths: {_listed(list(dict.fromkeys(route.path for route in routes)))}",
    )
    host.routes.extend(answering(unknown, name="no route", match=route_components_pb2.RouteMatch(prefix="/")))
    return host


def _fallback(problem: Problem) -> Message:
    host = route_components_pb2.VirtualHost(name="no such service", domains=["*"])
    host.routes.extend(answering(problem, name=problem.code, match=route_components_pb2.RouteMatch(prefix="/")))
    return host


def _longest_first(routes: Iterable[Route]) -> list[Route]:
    return sorted(routes, key=lambda route: (-len(route.path.rstrip("/")), route.path))


def _below(path: str) -> Message:
    """`/users` and `/users/7` and `/users?x`, not `/users2`."""
    stripped = path.rstrip("/")
    if not stripped:
        return route_components_pb2.RouteMatch(prefix="/")
    return route_components_pb2.RouteMatch(path_separated_prefix=stripped)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[: defaults.LISTED_MAX])
    more = len(names) - defaults.LISTED_MAX
    # Envoy reads % as the start of a command.
    return (f"{shown} and {more} more" if more > 0 else shown or "none").replace("%", "%%")


def _configuration(name: str, hosts: Sequence[Message]) -> Message:
    namespace, key = REPLICA_METADATA
    return route_pb2.RouteConfiguration(
        name=name,
        virtual_hosts=hosts,
        # A client's `Host: product-service:3001` names product-service.
        ignore_port_in_host_matching=True,
        response_headers_to_add=[set_header(REPLICA_HEADER, f"%UPSTREAM_METADATA({namespace}:{key})%")],
    )


def _send_to(
    host: Message, service: Service, port: Port, match: Message, times: Times, gateway: Route | None = None
) -> None:
    """Adds the routes of one path to one service: first those without a time-out, then the retry classes.

    Streams (WebSockets, gRPC, server-sent events) would be cut by the request time-out; gRPC brings its own in
    `grpc-timeout`. gRPC has a cluster of its own, and upgrades exist over HTTP/1.1 alone. What is idempotent, or
    carries an `Idempotency-Key`, is tried again on every failure; anything else only where no application can have
    seen it.
    """
    idempotent = _header(":method", matching("|".join(defaults.IDEMPOTENT_METHODS)))
    event_stream = _header("accept", containing("text/event-stream"))
    upgrade = route_components_pb2.HeaderMatcher(name="upgrade", present_match=True)
    keyed = route_components_pb2.HeaderMatcher(name="idempotency-key", present_match=True)
    cluster, grpc_cluster = cluster_name(service, port), grpc_cluster_name(service, port)
    usual = usual_cluster_name(service, port)
    for leads_to, headers, stream, again in (
        (cluster, (upgrade,), True, _UNSEEN),
        (grpc_cluster, (is_grpc(), keyed), True, _IDEMPOTENT),
        (grpc_cluster, (is_grpc(),), True, _UNSEEN),
        (usual, (event_stream, idempotent), True, _IDEMPOTENT),
        (usual, (event_stream,), True, _UNSEEN),
        (usual, (idempotent,), False, _IDEMPOTENT),
        (usual, (keyed,), False, _IDEMPOTENT),
        (usual, (), False, _UNSEEN),
    ):
        route = host.routes.add(name=cluster, match=match)
        route.match.headers.extend(headers)
        action = route.route
        action.cluster = leads_to
        action.retry_policy.CopyFrom(_behind_door(again) if isinstance(service.workload, Door) else again)
        _rewrite(route, service, gateway)
        if stream:
            action.timeout.CopyFrom(duration(0))
            action.idle_timeout.CopyFrom(duration(times.idle))
            action.max_stream_duration.grpc_timeout_header_max.CopyFrom(duration(0))
        else:
            action.timeout.CopyFrom(duration(times.request))


def _rewrite(route: Message, service: Service, gateway: Route | None) -> None:
    """What the service sees in the place of what the caller wrote."""
    host = service.rewrite_host
    if host is None and isinstance(service.workload, External) and not isinstance(service.workload, Door):
        host = str(service.workload)  # servers outside are many sites on one address, told apart by it
    if host is not None:
        route.route.host_rewrite_literal = host
        route.route.append_x_forwarded_host = True
    if gateway is None or gateway.rewrite is None:
        return
    path, instead = gateway.path.rstrip("/"), gateway.rewrite.rstrip("/")
    # A prefix would not do: of `/api/users` without `/api` it leaves `//users`, or of `/api` nothing at all.
    regex = route.route.regex_rewrite
    regex.pattern.regex = f"^{re.escape(path)}" + ("" if instead else "/?")
    regex.substitution = instead or "/"
    if path:
        # So that the service can write links: it does not know any more where it is.
        route.request_headers_to_add.append(set_header("x-forwarded-prefix", path.replace("%", "%%")))


def _header(name: str, match: Message) -> Message:
    return route_components_pb2.HeaderMatcher(name=name, string_match=match)


def _retries(*conditions: str) -> Message:
    policy = route_components_pb2.RetryPolicy
    return policy(
        retry_on=",".join(conditions),
        num_retries=UInt32Value(value=defaults.RETRIES),
        retry_host_predicate=[
            policy.RetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=packed(previous_hosts_pb2.PreviousHostsPredicate()),
            )
        ],
        host_selection_retry_max_attempts=defaults.HOST_RESELECTIONS,
        retry_back_off=policy.RetryBackOff(
            base_interval=duration(defaults.RETRY_BASE_S), max_interval=duration(defaults.RETRY_MAX_S)
        ),
    )


def _behind_door(policy: Message) -> Message:
    """What the replicas answer has been tried again behind the door, and is not multiplied in front of it."""
    return _IDEMPOTENT_BEHIND_DOOR if policy is _IDEMPOTENT else policy


_UNSEEN = _retries("connect-failure", "refused-stream", "reset-before-request")
"""Where the request cannot have reached an application."""
_IDEMPOTENT = _retries(
    "connect-failure", "refused-stream", "reset-before-request", "reset", "gateway-error", "unavailable"
)
"""Also where it may have: a connection that broke off, an answer of 502, 503 or 504, or gRPC's UNAVAILABLE."""
_IDEMPOTENT_BEHIND_DOOR = _retries("connect-failure", "refused-stream", "reset-before-request", "reset")
