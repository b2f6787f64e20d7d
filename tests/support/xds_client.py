"""A client of the delta protocol that behaves as Envoy does, in plain values: for properties of the server's side.

It warms clusters and listeners, asks for what they lead to, applies the good parts of a response that it refuses, and
keeps what it has over a reconnect.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from shoal.mesh.messages import duration, packed
from shoal.mesh.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, TYPES, Message
from shoal.xds.library import Resource
from shoal.xds.session import Response
from shoal.xds.wire import Request


def make_cluster(name: str, variant: int = 0, *, eds: bool = True) -> Message:
    kind = cluster_pb2.Cluster.EDS if eds else cluster_pb2.Cluster.STATIC
    return cluster_pb2.Cluster(name=name, type=kind, connect_timeout=duration(1 + variant))


def make_endpoints(name: str, variant: int = 0) -> Message:
    endpoint = endpoint_components_pb2.LocalityLbEndpoints(priority=variant)
    return endpoint_pb2.ClusterLoadAssignment(cluster_name=name, endpoints=[endpoint])


def make_listener(name: str, routes: str, variant: int = 0) -> Message:
    manager = http_connection_manager_pb2.HttpConnectionManager(
        rds=http_connection_manager_pb2.Rds(route_config_name=routes, config_source=config_source_pb2.ConfigSource()),
        stat_prefix=str(variant),
    )
    network_filter = listener_components_pb2.Filter(name="http", typed_config=packed(manager))
    return listener_pb2.Listener(
        name=name, filter_chains=[listener_components_pb2.FilterChain(filters=[network_filter])]
    )


def make_routes(name: str, clusters: tuple[str, ...], variant: int = 0) -> Message:
    host = route_components_pb2.VirtualHost(name=str(variant), domains=["*"])
    for cluster in clusters:
        host.routes.add(
            match=route_components_pb2.RouteMatch(prefix="/"), route=route_components_pb2.RouteAction(cluster=cluster)
        )
    return route_pb2.RouteConfiguration(name=name, virtual_hosts=[host])


@dataclass
class Client:
    """`outgoing` are its requests, in order; `handle` takes a response."""

    refuses: set[tuple[str, str]] = field(default_factory=set)
    """(type, name) or (type, version) of what it will not take."""
    has: dict[str, dict[str, Resource]] = field(default_factory=lambda: {t: {} for t in TYPES})
    """What is in use, or warms to be."""
    warm: set[str] = field(default_factory=set)
    """Clusters that can be used."""
    outgoing: list[Request] = field(default_factory=list)
    versions: dict[str, dict[str, str]] = field(default_factory=lambda: {t: {} for t in TYPES})
    """What it will declare after a reconnect: of responses that it accepted whole."""
    received: int = 0
    """Resources, ever."""
    _asked: dict[str, set[str]] = field(default_factory=lambda: {ENDPOINTS: set(), ROUTES: set()})
    _listens: bool = False
    """Whether it has come so far as to ask for listeners: its first clusters were warm."""
    _warming: set[str] = field(default_factory=set)
    _cut_off: set[str] = field(default_factory=set)
    _dangling: set[str] = field(default_factory=set)

    def connect(self) -> None:
        """Starts a stream. What was on its way on an earlier one is lost."""
        self.outgoing.clear()
        self._cut_off |= self._warming
        self.outgoing.append(Request(type_url=CLUSTER, initial_versions=dict(self.versions[CLUSTER])))
        for type_url in (ENDPOINTS, LISTENER, ROUTES):
            if type_url == LISTENER:
                if self._listens:
                    self.outgoing.append(Request(type_url=LISTENER, initial_versions=dict(self.versions[LISTENER])))
            elif self._asked[type_url]:
                names = tuple(sorted(self._asked[type_url]))
                held = {n: v for n, v in self.versions[type_url].items() if n in names}
                self.outgoing.append(Request(type_url=type_url, subscribe=names, initial_versions=held))

    def handle(self, response: Response) -> None:
        type_url = response.type_url
        self.received += len(response.resources)
        bad = [r for r in response.resources if {(type_url, r.name), (type_url, r.version)} & self.refuses]
        for name in response.removed:
            self._remove(type_url, name)
        for resource in response.resources:
            if resource not in bad:
                self._take(type_url, resource)
        for resource in (r for r in response.resources if r not in bad and self.has[type_url].get(r.name) == r):
            # Envoy declares nothing new of a response that it refused, even of the good parts that it took. That
            # matters only if the connection is lost before a part is sent alone, and it has left the snapshot by then.
            self.versions[type_url][resource.name] = "in doubt" if bad else resource.version
        error = f"will not take {bad[0].name}" if bad else None
        self._ask()
        self.outgoing.append(Request(type_url=type_url, nonce=response.nonce, error=error))
        if type_url in (CLUSTER, ENDPOINTS):
            self._maybe_listen()

    def _maybe_listen(self) -> None:
        if not self._warming and not self._listens:
            self._listens = True
            self.outgoing.append(Request(type_url=LISTENER, subscribe=("*",)))

    def wait(self) -> None:
        """Five seconds: a cluster that warmed when the connection was lost goes on with the endpoints that it had; the
        server cannot know that it waits."""
        given_up = self._warming & self._cut_off
        self._warming -= given_up
        self.warm |= given_up
        self._cut_off.clear()
        self._maybe_listen()

    def take_dangling(self) -> set[str]:
        """Clusters that the last responses made its routes lead to without need: routes that came before them, or
        stayed after them."""
        taken, self._dangling = self._dangling, set()
        return taken

    def _take(self, type_url: str, resource: Resource) -> None:
        if type_url in self._asked and resource.name not in self._asked[type_url]:
            return  # it was on its way when nothing needed it any more
        before = self.has[type_url].get(resource.name)
        self.has[type_url][resource.name] = resource
        if type_url == CLUSTER and before != resource:
            self._cut_off.discard(resource.name)
            if resource.needs:
                self._warming.add(resource.name)
            else:
                self.warm.add(resource.name)
        if type_url == ROUTES:
            usable = self.warm | self._cut_off
            self._dangling |= {n for t, n in resource.needs if t == CLUSTER and n not in usable}
        if type_url == ENDPOINTS:
            for cluster in self._warming & {resource.name}:
                self._warming.discard(cluster)
                self.warm.add(cluster)

    def _remove(self, type_url: str, name: str) -> None:
        if type_url == ENDPOINTS and name in self._warming:
            self._warming.discard(name)  # after a while, it goes on without any
            self.warm.add(name)
        if type_url not in (CLUSTER, LISTENER):
            return  # Envoy ignores it
        self.has[type_url].pop(name, None)
        self.versions[type_url].pop(name, None)
        if type_url == CLUSTER:
            if any((CLUSTER, name) in routes.needs for routes in self.has[ROUTES].values()):
                self._dangling.add(name)
            self.warm.discard(name)
            self._warming.discard(name)

    def _ask(self) -> None:
        """Subscribes to what its clusters and listeners lead to now, and no longer to what they do not."""
        for by, type_url in ((CLUSTER, ENDPOINTS), (LISTENER, ROUTES)):
            wanted = {n for resource in self.has[by].values() for t, n in resource.needs if t == type_url}
            asked = self._asked[type_url]
            new, old = sorted(wanted - asked), sorted(asked - wanted)
            if not new and not old:
                continue
            self._asked[type_url] = wanted
            for name in old:
                self.has[type_url].pop(name, None)
                self.versions[type_url].pop(name, None)
            self.outgoing.append(Request(type_url=type_url, subscribe=tuple(new), unsubscribe=tuple(old)))
