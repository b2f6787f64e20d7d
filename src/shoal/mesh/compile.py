"""An app as Envoy resources: clusters, listeners and routes; all but the endpoints, which change on their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from shoal.mesh.clusters import cluster_name, clusters
from shoal.mesh.denial import Denied, denial_routes, denial_routes_name, denied_addresses, deny_log, tcp_deny_log
from shoal.mesh.listeners import bytes_to, deny, edge, outer, reset, socket_door
from shoal.mesh.routes import (
    GATEWAY,
    MESH,
    Times,
    gateway_routes,
    mesh_routes,
    service_routes,
    service_routes_name,
)
from shoal.mesh.snapshot import CLUSTER, LISTENER, ROUTES, Message
from shoal.model.app import App, Port, Protocol, Service
from shoal.model.topology import EdgeMap

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


def compile_app(app: App, edges: EdgeMap, options: MeshOptions) -> dict[str, dict[str, Message]]:
    """type URL -> name -> message, for clusters, listeners and routes; the same bytes for the same input.

    `edges` has a lease for every declared call to a service with a port (KeyError otherwise). A caller without a deny
    edge has no deny listeners.
    """
    reachable = [service for service in app.services if service.port is not None]
    times = options.times
    routes = [route for service in reachable for route in service_routes(service, times)]
    routes.append(mesh_routes(reachable, times))
    if app.gateway is not None:
        routes.append(gateway_routes(app, app.gateway, times))
    denied = list(islice(denied_addresses(app, edges), options.deny_listeners_max))
    answered = {denial.caller.name: denial.caller for denial in denied if not denial.tcp}
    routes.extend(denial_routes(caller, options.app_file) for caller in answered.values())
    listeners = [
        *_published(app, options),
        *_edges(app, edges),
        *map(_denied, denied),
        socket_door("mesh.sock", options.mesh_socket, routes=MESH),
    ]
    return {
        CLUSTER: {cluster.name: cluster for service in reachable for cluster in clusters(service)},
        LISTENER: {listener.name: listener for listener in listeners},
        ROUTES: {configuration.name: configuration for configuration in routes},
    }


def _published(app: App, options: MeshOptions) -> Iterable[Message]:
    """IPv6 has listeners of its own: where `[::1]` cannot be bound, 127.0.0.1 still is."""
    hosts = [(LOOPBACK, ""), (LOOPBACK6, ".v6")] if options.ipv6 else [(LOOPBACK, "")]
    for host, suffix in hosts:
        for service in app.services:
            for port in service.every_port:
                if port.publish:
                    name = f"publish.{service.name}.{port.number}{suffix}"
                    if port.protocol is Protocol.TCP:
                        yield bytes_to(name, host, port.number, cluster=cluster_name(service, port))
                    else:
                        yield outer(name, host, port.number, routes=service_routes_name(service, port))
        if app.gateway is not None:
            yield outer(f"{GATEWAY}{suffix}", host, app.gateway.port, routes=GATEWAY)


def _edges(app: App, edges: EdgeMap) -> Iterable[Message]:
    for caller in app.services:
        for callee in map(app.service, dict.fromkeys(caller.calls)):
            for port in callee.every_port:
                leased = edges.edges[caller.name, callee.name]
                yield _edge(caller, callee, port, edges.address(leased.caller, leased.callee))


def _edge(caller: Service, callee: Service, port: Port, address: str) -> Message:
    name = f"edge.{caller.name}.{callee.name}.{port.number}"
    if port.protocol is Protocol.TCP:
        return bytes_to(name, address, port.number, cluster=cluster_name(callee, port))
    return edge(name, address, port.number, routes=service_routes_name(callee, port))


def _denied(denial: Denied) -> Message:
    name, caller = denial.listener, denial.caller.name
    if denial.tcp:
        return reset(name, denial.address, denial.port, access_log=tcp_deny_log())
    return deny(name, denial.address, denial.port, routes=denial_routes_name(caller), access_log=deny_log())
