"""What the two Envoys of an app hold in which services have networks of their own."""

from __future__ import annotations

import pytest

from shoal.control.revisions import next_desired
from shoal.control.routing import Routing
from shoal.engines.local.networks.addresses import AddressLeases
from shoal.mesh.compile import MeshOptions, compile_app
from shoal.mesh.sides import door_path
from shoal.mesh.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Message, Snapshot
from shoal.model.app import App, Command, Gateway, Network, Protocol, Route, Service
from shoal.model.replica import Replica, ReplicaState, TcpAddress
from shoal.model.topology import DENIED, Edge, EdgeMap
from shoal.model.world import Desired, Observed

OPTIONS = MeshOptions(mesh_socket="/run/mesh.sock", doors="/run", ipv6=False)


def service(name: str, network: Network = Network.OWN, **fields: object) -> Service:
    values = {"port": 9080, "folder": "/", "workload": Command(argv=("x",)), "network": network} | fields
    return Service(name=name, **values)  # type: ignore[arg-type]


def app_of(*services: Service, gateway: str | None = None) -> App:
    front = Gateway(port=8080, routes=(Route(service=gateway, path="/"),)) if gateway else None
    return App(name="app", services=services, gateway=front)


def edges_of(app: App) -> EdgeMap:
    pairs = [(s.name, callee) for s in app.services for callee in (*s.calls, DENIED)]
    return EdgeMap(
        network=77,
        edges={pair: Edge(caller=pair[0], callee=pair[1], number=n) for n, pair in enumerate(pairs, 1)},
        own=frozenset(s.name for s in app.services if s.network is Network.OWN),
    )


MIXED = app_of(
    service("web", calls=("api", "db")),
    service("api", calls=("old",)),
    service("db", port=6379, protocol=Protocol.TCP),
    service("old", Network.HOST, port=3000, calls=("api",), rewrite_host="old.example.com"),
    service("alone", Network.HOST, port=3001),
    gateway="web",
)


def compiled(app: App, side: Network) -> dict[str, dict[str, Message]]:
    return compile_app(app, edges_of(app), OPTIONS, side)


def test_an_app_on_the_machines_network_has_no_doors_and_one_envoy() -> None:
    app = app_of(service("web", Network.HOST), service("api", Network.HOST))
    assert not [name for name in compiled(app, Network.HOST)[LISTENER] if name.startswith("door.")]
    assert published(app, []).own is None


def test_each_side_listens_for_its_own_callers_and_has_doors_for_the_other_sides() -> None:
    host, own = compiled(MIXED, Network.HOST)[LISTENER], compiled(MIXED, Network.OWN)[LISTENER]
    assert {name for name in host if not name.startswith("deny.")} == {
        "edge.old.api.9080",
        "door.old.3000",  # and none for `alone`, which nobody there calls
        "gateway",
        "mesh.sock",
    }
    assert {name for name in own if not name.startswith("deny.")} == {
        "edge.web.api.9080",
        "edge.web.db.6379",
        "edge.api.old.3000",
        "door.web.9080",
        "door.api.9080",
        "door.db.6379",
    }
    assert own["edge.web.api.9080"].address.socket_address.address.startswith("10.78.0.")
    assert host["edge.old.api.9080"].address.socket_address.address.startswith("127.77.0.")
    for side, listeners in ((host, host), (own, own)):
        callers = {name.split(".")[1] for name in listeners if name.startswith("deny.")}
        assert callers == ({"old", "alone"} if side is host else {"web", "api", "db"})


@pytest.mark.parametrize(
    ("side", "name", "port", "far"),
    [(Network.HOST, "api", 9080, Network.OWN), (Network.OWN, "old", 3000, Network.HOST)],
)
def test_a_service_of_the_other_side_is_reached_by_its_door(side: Network, name: str, port: int, far: Network) -> None:
    here, there = compiled(MIXED, side), compiled(MIXED, far)
    path = door_path("/run", far, f"{name}:{port}")
    assert there[LISTENER][f"door.{name}.{port}"].address.pipe.path == path
    for cluster in (name, f"{name}|h2"):
        assert here[CLUSTER][cluster].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe.path == path
        assert not here[CLUSTER][cluster].HasField("outlier_detection")


def test_what_replicas_answer_is_tried_again_on_one_side_alone() -> None:
    def conditions(side: Network) -> set[str]:
        routes = compiled(MIXED, side)[ROUTES]["service.api"].virtual_hosts[0].routes
        return {condition for route in routes for condition in route.route.retry_policy.retry_on.split(",")}

    assert conditions(Network.OWN) - conditions(Network.HOST) == {"gateway-error", "unavailable"}
    assert "connect-failure" in conditions(Network.HOST)


def test_the_host_is_rewritten_where_the_replicas_are() -> None:
    def host(side: Network) -> str:
        return str(compiled(MIXED, side)[ROUTES]["service.old"].virtual_hosts[0].routes[0].route.host_rewrite_literal)

    assert (host(Network.OWN), host(Network.HOST)) == ("", "old.example.com")


def test_low_ports_of_own_networks_are_not_bound_on_the_machine() -> None:
    app = app_of(service("web", port=80), service("old", Network.HOST, port=3000))
    denied = {n.rpartition(".")[2] for n in compiled(app, Network.HOST)[LISTENER] if n.startswith("deny.")}
    assert "80" not in denied
    assert {n.rpartition(".")[2] for n in compiled(app, Network.OWN)[LISTENER] if n.startswith("deny.")} == {
        "80",
        "3000",
    }


def published(app: App, replicas: list[Replica]) -> Snapshot:
    desired: Desired = next_desired(app, None, {}, 0.0)[0]
    observed = Observed(replicas={replica.id: replica for replica in replicas})
    snapshot = Routing(OPTIONS).snapshot(desired, observed, edges_of(app))
    assert snapshot is not None
    return snapshot


def replica(name: str, host: str, state: ReplicaState = ReplicaState.READY) -> Replica:
    address = TcpAddress(host=host, port=9080)
    return Replica(id=f"{name}-r1", service=name, number=1, revision=1, state=state, pid=412, address=address)


def test_replicas_are_endpoints_on_their_side() -> None:
    snapshot = published(MIXED, [replica("web", "10.77.0.2"), replica("old", "127.0.0.1")])
    assert snapshot.own is not None
    assert set(snapshot.resources[ENDPOINTS]) == {"old", "alone"}
    assert set(snapshot.own[ENDPOINTS]) == {"web", "api", "db"}
    (found,) = snapshot.own[ENDPOINTS]["web"].endpoints[0].lb_endpoints
    assert found.endpoint.address.socket_address.address == "10.77.0.2"
    assert snapshot.replicas == {"web-r1", "old-r1"}


@pytest.mark.parametrize("state", [ReplicaState.STARTING, ReplicaState.READY])
def test_a_replica_on_127_0_0_1_has_a_relay_from_its_start_on(state: ReplicaState) -> None:
    app = app_of(service("web", loopback=True))
    snapshot = published(app, [replica("web", "127.0.0.1", state)])
    assert snapshot.own is not None
    cluster = snapshot.own[CLUSTER]["relay.web-r1.412"]
    assert cluster.upstream_bind_config.source_address.network_namespace_filepath == "/proc/412/ns/net"
    path = snapshot.own[LISTENER]["relay.web-r1.412"].address.pipe.path
    groups = snapshot.own[ENDPOINTS]["web"].endpoints
    there = [one.endpoint.address.pipe.path for group in groups for one in group.lb_endpoints]
    assert there == ([path] if state is ReplicaState.READY else [])


def test_addresses_rest_before_they_are_used_again() -> None:
    leases = AddressLeases()
    assert [leases.lease(f"a-r{n}") for n in (1, 2)] == ["10.77.0.2", "10.77.0.3"]
    assert leases.lease("a-r1") == "10.77.0.4"
    leases.release("a-r2")
    assert leases.lease("a-r3") == "10.77.0.5"
    other = AddressLeases()
    other.adopt("b-r1", "10.77.1.0")
    other.adopt("b-r2", "127.0.0.1")
    assert other.lease("b-r3") == "10.77.1.1"
