"""Routes to services: how long a request may take, and when it is tried again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from shoal.mesh import defaults
from shoal.mesh.clusters import LIMITED, cluster_name, grpc_cluster_name, of_caller, usual_cluster_name
from shoal.mesh.endpoints import REPLICA_METADATA
from shoal.mesh.filters import put_fault, put_limit
from shoal.mesh.listeners import CALLER_HEADER
from shoal.mesh.messages import add_header, containing, duration, exactly, matching, packed, set_header
from shoal.mesh.policies import in_force, own_clusters
from shoal.mesh.problems import Problem, answering, is_grpc
from shoal.mesh.sides import Door, behind_door
from shoal.mesh.snapshot import Message
from shoal.model.app import App, External, Gateway, Port, Protocol, Route, Service
from shoal.model.traffic import NOTHING, Choice, Policy, shown

GATEWAY = "gateway"
MESH = "mesh"
ENVOYS_IDLE_S = 300.0
"""After which Envoy ends a request that moves no byte, where nothing else is said."""
REPLICA_HEADER = "x-shoal-replica"
DEADLINE_HEADER = "x-shoal-deadline"
"""Milliseconds that the caller still waits; see `shoal.sdk.deadline`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long things may take, in seconds."""

    idle: float = defaults.STREAM_IDLE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """To one port of a service, for everybody or for one caller."""

    service: Service
    port: Port
    variant: str = ""
    """Of the cluster."""
    caller: str = ""
    """Whose requests go this way; empty: everybody's."""
    policy: Policy = field(init=False)
    said: Policy = NOTHING
    """What that caller says of it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy", in_force(self.service, self.said, self.port.protocol))


def service_routes_name(service: Service, port: Port) -> str:
    """The route configuration of a service's port: where it is published and every edge to it share one."""
    return f"service.{cluster_name(service, port)}"


def service_routes(service: Service, callers: Sequence[tuple[str, Policy]], times: Times) -> Iterator[Message]:
    """Of each of its ports that has routes. `callers`: what they say of their calls to it; theirs come first."""
    limits = [(caller, said.limit) for caller, said in callers if said.limit is not None]
    for port in service.every_port:
        if port.protocol is Protocol.TCP:
            continue
        host = route_components_pb2.VirtualHost(name=service.name, domains=["*"])
        everything = route_components_pb2.RouteMatch(prefix="/")
        for caller, said in callers:
            variant = of_caller(caller) if own_clusters(said) else ""
            way = Way(service=service, port=port, caller=caller, said=said, variant=variant)
            _send_to(host, way, everything, times)
        _send_to(host, Way(service=service, port=port), everything, times)
        put_limit(host, service.traffic.limit, limits, header=CALLER_HEADER)
        if not isinstance(service.workload, Door):
            host.request_headers_to_remove.append(CALLER_HEADER)
        yield _configuration(service_routes_name(service, port), [host])


def is_limited(service: Service) -> bool:
    """Whether all its requests must pass one place that counts them."""
    return service.traffic.limit is not None and service.traffic.limit.requests > 0


def _way(service: Service, port: Port, doors: str) -> Way:
    """From where the routes of many services are: to the one place that counts, where there is one."""
    if not is_limited(service):
        return Way(service=service, port=port)
    return Way(service=behind_door(service, doors), port=port, variant=LIMITED)


def mesh_routes(services: Iterable[Service], times: Times, doors: str = "") -> Message:
    """The main port of every service by its name in the Host header, with or without a port. `doors`: their folder."""
    hosts = []
    names = []
    for service in services:
        main = service.every_port[0]
        if main.protocol is Protocol.TCP:
            continue
        host = route_components_pb2.VirtualHost(name=service.name, domains=[service.name])
        _send_to(host, _way(service, main, doors), route_components_pb2.RouteMatch(prefix="/"), times)
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


def gateway_routes(app: App, gateway: Gateway, times: Times, doors: str = "") -> Message:
    """A host's own routes come before those without a host; among each, the longest path wins."""
    for_any = _longest_first(route for route in gateway.routes if route.host is None)
    hosts = []
    for name in sorted({route.host.lower() for route in gateway.routes if route.host is not None}):
        own = _longest_first(route for route in gateway.routes if route.host is not None and route.host.lower() == name)
        hosts.append(_gateway_host(app, name, [name], [*own, *for_any], times, doors))
    hosts.append(_gateway_host(app, "any host", ["*"], for_any, times, doors))
    return _configuration(GATEWAY, hosts)


def _gateway_host(
    app: App, name: str, domains: list[str], routes: Sequence[Route], times: Times, doors: str
) -> Message:
    host = route_components_pb2.VirtualHost(name=name, domains=domains)
    for route in routes:
        service = app.service(route.service)
        port = next(p for p in service.every_port if p.name == route.port or not route.port)
        _send_to(host, _way(service, port, doors), _below(route.path), times, route)
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


def _send_to(host: Message, there: Way, match: Message, times: Times, gateway: Route | None = None) -> None:
    """Adds the routes of one path to one service: first those without a time-out, then the retry classes.

    Streams (WebSockets, gRPC, server-sent events) would be cut by the request time-out; gRPC brings its own in
    `grpc-timeout`. gRPC has a cluster of its own, and upgrades exist over HTTP/1.1 alone. What is idempotent, or
    carries an `Idempotency-Key`, is tried again on every failure; anything else only where no application can have
    seen it.
    """
    service, policy = there.service, there.policy
    idempotent = _header(":method", matching("|".join(defaults.IDEMPOTENT_METHODS)))
    event_stream = _header("accept", containing("text/event-stream"))
    upgrade = route_components_pb2.HeaderMatcher(name="upgrade", present_match=True)
    keyed = route_components_pb2.HeaderMatcher(name="idempotency-key", present_match=True)
    only = (_header(CALLER_HEADER, exactly(there.caller)),) if there.caller else ()
    cluster = cluster_name(service, there.port, there.variant)
    grpc_cluster = grpc_cluster_name(service, there.port, there.variant)
    usual = usual_cluster_name(service, there.port, there.variant)
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
        route = host.routes.add(name=cluster_name(service, there.port), match=match)
        route.match.headers.extend((*only, *headers))
        action = route.route
        action.cluster = leads_to
        _try_again(action, service, policy, again, stream=stream)
        _choose(action, policy)
        if policy.fault:
            put_fault(route, policy.fault)
        _rewrite(route, service, gateway)
        timeout = policy.timeout_s or 0.0
        if stream or timeout == 0 or timeout >= times.idle:
            action.idle_timeout.CopyFrom(duration(times.idle))
        elif timeout >= ENVOYS_IDLE_S:
            action.idle_timeout.CopyFrom(duration(timeout))
        if stream:
            action.timeout.CopyFrom(duration(0))
            action.max_stream_duration.grpc_timeout_header_max.CopyFrom(duration(0))
        else:
            action.timeout.CopyFrom(duration(timeout))
            # For the message when it is over. Only here: it costs a kilobyte a route in Envoy.
            route.metadata.filter_metadata[REPLICA_METADATA[0]].update({"timeout": shown(timeout)})
            if timeout:
                # A caller that knows better has said so. Envoy's own header is suppressed, as all of its are.
                route.request_headers_to_add.append(add_header(DEADLINE_HEADER, str(round(timeout * 1000))))


def _try_again(action: Message, service: Service, policy: Policy, again: tuple[str, ...], *, stream: bool) -> None:
    if not policy.retries:
        return
    if isinstance(service.workload, Door) and again == _IDEMPOTENT:
        again = _IDEMPOTENT_BEHIND_DOOR
    hedged = bool(policy.per_try_timeout_s) and again == _IDEMPOTENT and not stream
    action.retry_policy.CopyFrom(_retries(again, policy.retries, (policy.per_try_timeout_s or 0.0) if hedged else 0.0))
    if hedged:
        # The first try goes on: to cut off what is only slow would turn a slow service into a failing one.
        action.hedge_policy.hedge_on_per_try_timeout = True


def _choose(action: Message, policy: Policy) -> None:
    """What a ring hash goes by. A retry takes the next replica on the ring."""
    balance = policy.balance
    if balance is None or balance.choice is not Choice.RING_HASH:
        return
    by = route_components_pb2.RouteAction.HashPolicy
    if balance.header:
        action.hash_policy.append(by(header=by.Header(header_name=balance.header)))
    else:
        action.hash_policy.append(
            by(cookie=by.Cookie(name=balance.cookie, ttl=duration(balance.ttl_s), path="/"), terminal=True)
        )


def _rewrite(route: Message, service: Service, gateway: Route | None) -> None:
    """What the service sees in the place of what the caller wrote."""
    host = service.rewrite_host
    if host is None and isinstance(service.workload, External) and not isinstance(service.workload, Door):
        host = service.workload.authority  # servers outside are many sites on one address, told apart by it
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


@cache
def _retries(conditions: tuple[str, ...], retries: int, per_try_s: float) -> Message:
    policy = route_components_pb2.RetryPolicy
    built = policy(
        retry_on=",".join(conditions),
        num_retries=UInt32Value(value=retries),
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
    if per_try_s:
        built.per_try_timeout.CopyFrom(duration(per_try_s))
    return built


_UNSEEN = ("connect-failure", "refused-stream", "reset-before-request")
"""Where the request cannot have reached an application."""
_IDEMPOTENT = (*_UNSEEN, "reset", "gateway-error", "unavailable")
"""Also where it may have: a connection that broke off, an answer of 502, 503 or 504, or gRPC's UNAVAILABLE."""
_IDEMPOTENT_BEHIND_DOOR = (*_UNSEEN, "reset")
"""What the replicas answer has been tried again behind the door, and is not multiplied in front of it."""
