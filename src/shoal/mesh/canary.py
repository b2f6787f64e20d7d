"""What is different in Envoy while two revisions of a service are compared, and only then.

How many requests each gets is in the endpoints' weights. A tester chooses by a header: `x-canary: always` goes to the
new revision, `never` to the old one; the rest goes by weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2

from shoal.mesh.endpoints import REVISION_METADATA
from shoal.mesh.messages import exactly
from shoal.mesh.snapshot import CLUSTER, ROUTES, Message

CANARY_HEADER = "x-canary"
"""Not `x-shoal-canary`: what begins with `x-shoal-` is Shoal's own, and is taken off at every door."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Two revisions of one service, side by side."""

    new: int
    old: int


def weights(percent: float, new: int, old: int) -> tuple[int, int]:
    """(weight of each of `new` replicas, of each of `old` ones), so that the new ones together have exactly `percent`
    of all weights, in the smallest whole numbers. `new` and `old` at least 1, 0 < percent < 100."""
    share = Fraction(percent).limit_denominator(10_000) / 100
    each_new, each_old = share / new, (1 - share) / old
    whole = lcm(each_new.denominator, each_old.denominator)
    a, b = each_new * whole, each_old * whole
    common = gcd(a.numerator, b.numerator)
    return a.numerator // common, b.numerator // common


def with_canaries(
    static: Mapping[str, Mapping[str, Message]], canaries: Mapping[str, Canary]
) -> Mapping[str, Mapping[str, Message]]:
    """`compile_app`'s resources, with what the canaries under way need; by service. Without any, the same object."""
    if not canaries:
        return static
    of_cluster = {name: canaries.get(_service_of(cluster)) for name, cluster in static[CLUSTER].items()}
    led = {name: canary for name, canary in of_cluster.items() if canary is not None}
    clusters = {name: _choosable(c) if name in led else c for name, c in static[CLUSTER].items()}
    routes = {name: _with_choices(configuration, led) for name, configuration in static[ROUTES].items()}
    return {**static, CLUSTER: clusters, ROUTES: routes}


def _service_of(cluster: Message) -> str:
    """Whose replicas it leads to; empty where it leads elsewhere. Its name goes on after the service's with `:` or `|`,
    neither of which a service's name has."""
    if cluster.type != cluster_pb2.Cluster.EDS:
        return ""
    return str(cluster.name).partition("|")[0].partition(":")[0]


def _choosable(cluster: Message) -> Message:
    """Routes may choose among its replicas by revision; those that do not get any of them."""
    built = cluster_pb2.Cluster()
    built.CopyFrom(cluster)
    built.lb_subset_config.fallback_policy = cluster_pb2.Cluster.LbSubsetConfig.ANY_ENDPOINT
    built.lb_subset_config.subset_selectors.add(keys=[REVISION_METADATA[1]])
    if built.lb_policy == cluster_pb2.Cluster.LEAST_REQUEST:
        # Envoy else divides each weight by the requests under way: with 24 at a time, a tenth became a seventh.
        bias = built.least_request_lb_config.active_request_bias
        bias.default_value = 0.0
        bias.runtime_key = "shoal.canary.active_request_bias"
    return built


def _with_choices(configuration: Message, led: Mapping[str, Canary]) -> Message:
    """Each route that leads to a canary follows two of its kind, for those who chose. The same object without one."""
    if not any(route.route.cluster in led for host in configuration.virtual_hosts for route in host.routes):
        return configuration
    built = route_pb2.RouteConfiguration()
    built.CopyFrom(configuration)
    for host, original in zip(built.virtual_hosts, configuration.virtual_hosts, strict=True):
        del host.routes[:]
        for route in original.routes:
            canary = led.get(route.route.cluster)
            if canary is not None:
                host.routes.append(_chosen(route, "always", canary.new))
                host.routes.append(_chosen(route, "never", canary.old))
            host.routes.append(route)
    return built


def _chosen(route: Message, value: str, revision: int) -> Message:
    built = route_components_pb2.Route()
    built.CopyFrom(route)
    built.match.headers.append(route_components_pb2.HeaderMatcher(name=CANARY_HEADER, string_match=exactly(value)))
    namespace, key = REVISION_METADATA
    built.route.metadata_match.filter_metadata[namespace].update({key: str(revision)})
    return built
