"""An app as Envoy resources: clusters, listeners and routes; all but the endpoints, which change on their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from shoal.mesh.clusters import cluster
from shoal.mesh.denial import denial_routes, denial_routes_name, denied_addresses, deny_log
from shoal.mesh.listeners import deny, edge, outer, socket_door
from shoal.mesh.routes import GATEWAY, MESH, gateway_routes, mesh_routes, service_routes, service_routes_name
from shoal.mesh.snapshot import CLUSTER, LISTENER, ROUTES, Message
from shoal.model.app import App
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


def compile_app(app: App, edges: EdgeMap, options: MeshOptions) -> dict[str, dict[str, Message]]:
    """type URL -> name -> message, for clusters, listeners and routes; the same bytes for the same input.

    `edges` has a lease for every declared call to a service with a port (KeyError otherwise). A caller without a deny
    edge has no deny listeners.
    """
    reachable = [service for service in app.services if service.port is not None]
    routes = [*map(service_routes, reachable), mesh_routes(reachable)]
    if app.gateway is not None:
        routes.append(gateway_routes(app, app.gateway))
    denied = list(islice(denied_addresses(app, edges), options.deny_listeners_max))
    routes.extend(denial_routes(caller, options.app_file) for caller in {c.name: c for c, _, _ in denied}.values())
    listeners = [
        *_published(app, options),
        *_edges(app, edges),
        *(
            deny(
                f"deny.{caller.name}.{address}.{port}",
                address,
                port,
                routes=denial_routes_name(caller.name),
                access_log=deny_log(),
            )
            for caller, address, port in denied
        ),
        socket_door("mesh.sock", options.mesh_socket, routes=MESH),
    ]
    return {
        CLUSTER: {service.name: cluster(service) for service in reachable},
        LISTENER: {listener.name: listener for listener in listeners},
        ROUTES: {configuration.name: configuration for configuration in routes},
    }


def _published(app: App, options: MeshOptions) -> Iterable[Message]:
    """IPv6 has listeners of its own: where `[::1]` cannot be bound, 127.0.0.1 still is."""
    doors = [
        (f"publish.{service.name}.{service.port}", service.port, service_routes_name(service.name))
        for service in app.services
        if service.publish and service.port is not None
    ]
    if app.gateway is not None:
        doors.append((GATEWAY, app.gateway.port, GATEWAY))
    for name, port, routes in doors:
        yield outer(name, LOOPBACK, port, routes=routes)
        if options.ipv6:
            yield outer(f"{name}.v6", LOOPBACK6, port, routes=routes)


def _edges(app: App, edges: EdgeMap) -> Iterable[Message]:
    ports = {service.name: service.port for service in app.services}
    for caller in app.services:
        for callee in dict.fromkeys(caller.calls):
            port = ports[callee]
            if port is None:
                continue
            leased = edges.edges[caller.name, callee]
            yield edge(
                f"edge.{caller.name}.{callee}.{port}",
                edges.address(leased.caller, leased.callee),
                port,
                routes=service_routes_name(callee),
            )
