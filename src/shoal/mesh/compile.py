"""An app as Envoy resources: clusters, listeners and routes; all but the endpoints, which change on their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from shoal.mesh import egress
from shoal.mesh.clusters import cluster_name, clusters, doors, of_caller
from shoal.mesh.denial import Denied, denial_routes, denial_routes_name, denied_addresses, deny_log, tcp_deny_log
from shoal.mesh.listeners import (
    bytes_to,
    deny,
    edge,
    inner_door,
    inner_door_for_bytes,
    outer,
    reset,
    socket_door,
)
from shoal.mesh.policies import edges_to, in_force, own_clusters, patient
from shoal.mesh.routes import (
    GATEWAY,
    MESH,
    Times,
    gateway_routes,
    is_limited,
    mesh_routes,
    service_routes,
    service_routes_name,
)
from shoal.mesh.sides import behind_door, door_path, doors_of, has_own_side, seen_from
from shoal.mesh.snapshot import CLUSTER, LISTENER, ROUTES, Message
from shoal.model.app import App, Network, Port, Protocol, Service
from shoal.model.topology import ANYBODY, EdgeMap
from shoal.model.traffic import NOTHING, Policy

LOOPBACK = "127.0.0.1"
LOOPBACK6 = "::1"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshOptions:
    """What the mesh must know of the machine. Found out elsewhere, given as values."""

    mesh_socket: str
    """Path of the Unix socket that `shoal call` uses: every service, by its name in the Host header."""
    ipv6: bool = True
    """Whether `::1` can be bound here. Without it, published ports and the gateway are on 127.0.0.1 alone."""
    app_file: str = "shoal.yaml"
    """As the messages name it."""
    deny_listeners_max: int = 2048
    """How many (caller, port) pairs get a listener that says why a call is denied. Beyond it such a call is refused by
    the kernel, without words: 1,000 services on 1,000 ports of their own would need a million."""
    times: Times = field(default_factory=Times)
    doors: str = ""
    """The folder of the Unix sockets by which the Envoys of the two sides reach each other."""


def compile_app(
    app: App, edges: EdgeMap, options: MeshOptions, side: Network = Network.HOST
) -> dict[str, dict[str, Message]]:
    """type URL -> name -> message, for clusters, listeners and routes; the same bytes for the same input.

    `side`: for which of the two Envoys (`mesh.sides`). An app in which no service has a network of its own has one.

    `edges` has a lease for every declared call to a service with a port (KeyError otherwise). A caller without a deny
    edge has no deny listeners.
    """
    front = side is Network.HOST
    doorways = list(doors_of(app, side)) if has_own_side(app) else []
    app = seen_from(patient(app) if app.dev else app, side, options.doors)
    reachable = [service for service in app.services if service.port is not None]
    # The gateway and the mesh socket come to these by a door, so that every request passes the place that counts.
    limited = [service for service in reachable if front and is_limited(service)]
    doorways += [(s, p) for s in limited for p in s.every_port if p.protocol is not Protocol.TCP]
    callers = {service.name: edges_to(app, service) for service in reachable}
    times = options.times
    routes = [route for service in reachable for route in service_routes(service, callers[service.name], times)]
    if front:
        routes.append(mesh_routes(reachable, times, options.doors))
    if front and app.gateway is not None:
        routes.append(gateway_routes(app, app.gateway, times, options.doors))
    hidden = _out_of_reach(app) if front else frozenset()
    here = (d for d in denied_addresses(app, edges) if d.caller.network is side and d.port not in hidden)
    denied = list(islice(here, options.deny_listeners_max))
    answered = {denial.caller.name: denial.caller for denial in denied if not denial.tcp}
    routes.extend(denial_routes(caller, options.app_file) for caller in answered.values())
    routes.extend(egress.far_routes(app, options.app_file) if front else ())
    outside = egress.far_clusters(app) if front else egress.near_clusters(app, options.doors)
    listeners = [
        *(egress.far_listeners(app, options.doors) if front else egress.near_listeners(app, edges)),
        *(_published(app, options) if front else ()),
        *_edges(app, edges, side),
        *(_edges_of_anybody(app, edges) if front else ()),
        *map(_denied, denied),
        *(_door(service, port, options.doors) for service, port in doorways),
    ]
    if front:
        listeners.append(socket_door("mesh.sock", options.mesh_socket, routes=MESH))
    return {
        CLUSTER: {
            cluster.name: cluster
            for cluster in (
                *(cluster for service in reachable for cluster in clusters(service, callers[service.name])),
                *(cluster for service in limited for cluster in doors(behind_door(service, options.doors))),
                *outside,
            )
        },
        LISTENER: {listener.name: listener for listener in listeners},
        ROUTES: {configuration.name: configuration for configuration in routes},
    }


def _out_of_reach(app: App) -> frozenset[int]:
    """Low ports that only services with networks of their own have: on the machine's network they may be root's."""
    of_own = {p.number for s in app.services for p in s.every_port if s.network is Network.OWN and p.number < 1024}
    return frozenset(of_own - {p.number for s in app.services for p in s.every_port if s.network is Network.HOST})


def _published(app: App, options: MeshOptions) -> Iterable[Message]:
    """IPv6 has listeners of its own: where `[::1]` cannot be bound, 127.0.0.1 still is."""
    hosts = [(LOOPBACK, ""), (LOOPBACK6, ".v6")] if options.ipv6 else [(LOOPBACK, "")]
    for host, suffix in hosts:
        for service in app.services:
            for port in service.every_port:
                if port.publish:
                    name = f"publish.{service.name}.{port.number}{suffix}"
                    if port.protocol is Protocol.TCP:
                        connects = _connects(service)
                        cluster = cluster_name(service, port)
                        yield bytes_to(name, host, port.number, cluster=cluster, connects=connects)
                    else:
                        yield outer(name, host, port.number, routes=service_routes_name(service, port))
        if app.gateway is not None:
            trusted = app.gateway.trusted_proxies
            yield outer(f"{GATEWAY}{suffix}", host, app.gateway.port, routes=GATEWAY, trusted=trusted)


def _door(service: Service, port: Port, folder: str) -> Message:
    name, path = (
        f"door.{service.name}.{port.number}",
        door_path(folder, service.network, f"{service.name}:{port.number}"),
    )
    if port.protocol is Protocol.TCP:
        return inner_door_for_bytes(name, path, cluster=cluster_name(service, port), connects=_connects(service))
    return inner_door(name, path, routes=service_routes_name(service, port))


def _edges(app: App, edges: EdgeMap, side: Network) -> Iterable[Message]:
    for caller in (service for service in app.services if service.network is side):
        for callee in map(app.service, dict.fromkeys(caller.calls)):
            for port in callee.every_port:
                leased = edges.edges[caller.name, callee.name]
                yield _edge(app, caller, callee, port, edges.address(leased.caller, leased.callee))


def _edges_of_anybody(app: App, edges: EdgeMap) -> Iterable[Message]:
    """Where there are any: what is said of single callers does not hold there, because nobody knows who calls."""
    for callee in app.services:
        if (ANYBODY, callee.name) not in edges.edges:
            continue
        address = edges.address(ANYBODY, callee.name)
        for port in callee.every_port:
            name = f"edge.{ANYBODY}.{callee.name}.{port.number}"
            if port.protocol is Protocol.TCP:
                cluster = cluster_name(callee, port)
                yield bytes_to(name, address, port.number, cluster=cluster, connects=_connects(callee))
            else:
                yield edge(name, address, port.number, caller="", routes=service_routes_name(callee, port))


def _edge(app: App, caller: Service, callee: Service, port: Port, address: str) -> Message:
    name = f"edge.{caller.name}.{callee.name}.{port.number}"
    if port.protocol is Protocol.TCP:
        said = dict(edges_to(app, callee)).get(caller.name, NOTHING)
        cluster = cluster_name(callee, port, of_caller(caller.name) if own_clusters(said) else "")
        return bytes_to(name, address, port.number, cluster=cluster, connects=_connects(callee, said))
    return edge(name, address, port.number, caller=caller.name, routes=service_routes_name(callee, port))


def _connects(service: Service, said: Policy = NOTHING) -> int:
    return 1 + (in_force(service, said, Protocol.TCP).retries or 0)


def _denied(denial: Denied) -> Message:
    name, caller = denial.listener, denial.caller.name
    if denial.tcp:
        return reset(name, denial.address, denial.port, access_log=tcp_deny_log())
    return deny(name, denial.address, denial.port, routes=denial_routes_name(caller), access_log=deny_log())
