"""What holds of every app that is compiled."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.mesh.assemble import assemble
from shoal.mesh.compile import MeshOptions, compile_app
from shoal.mesh.denial import caller_of, denial_routes_name
from shoal.mesh.endpoints import Endpoint, assignment
from shoal.mesh.references import references
from shoal.mesh.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, TYPES, Message
from shoal.model.app import App, Command, Gateway, Protocol, Route, Service
from shoal.model.replica import TcpAddress
from shoal.model.topology import ANYBODY, DENIED, Edge, EdgeMap
from tests.support.envoy import edge_map

OPTIONS = MeshOptions(mesh_socket="/run/mesh.sock")
NAMES = ("a", "b-b", "c", "d")


@st.composite
def apps(draw: st.DrawFn) -> App:
    """Up to four services; some are workers, some share a port, each may call any; perhaps a gateway."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    services = []
    published: set[int] = set()
    for name in names:
        port = draw(st.none() | st.sampled_from((80, 3000, 3001)))
        publish = port is not None and port not in published and draw(st.booleans())
        if publish and port is not None:
            published.add(port)
        calls = tuple(draw(st.lists(st.sampled_from(names), unique=True)))
        services.append(
            Service(name=name, workload=Command(argv=("x",)), folder="/", port=port, publish=publish, calls=calls)
        )
    reachable = [service.name for service in services if service.port is not None]
    gateway = None
    if reachable and draw(st.booleans()):
        paths = draw(st.lists(st.sampled_from(("/", "/x", "/x/y", "/z/")), min_size=1, unique=True))
        routes = tuple(
            Route(service=draw(st.sampled_from(reachable)), path=path, host=draw(st.sampled_from((None, "h.test"))))
            for path in paths
        )
        gateway = Gateway(port=8088, routes=routes)
    return App(name="app", services=tuple(services), gateway=gateway)


def flat(resources: dict[str, dict[str, Message]]) -> dict[tuple[str, str], bytes]:
    return {
        (type_url, name): message.SerializeToString(deterministic=True)
        for type_url, messages in resources.items()
        for name, message in messages.items()
    }


def address(listener: Message) -> tuple[str, int] | str:
    where = listener.address
    return where.pipe.path or (where.socket_address.address, where.socket_address.port_value)


@given(apps())
def test_whatever_a_resource_leads_to_is_there(app: App) -> None:
    static = compile_app(app, edge_map(app, 77), OPTIONS)
    snapshot = assemble(static, {}, version=1, replicas=frozenset())
    for type_url in TYPES:
        for message in snapshot.resources[type_url].values():
            for needed_type, name in references(type_url, message):
                assert name in snapshot.resources[needed_type], (needed_type, name)


@given(apps())
def test_every_resource_has_the_name_it_goes_by_and_no_two_listeners_an_address(app: App) -> None:
    static = compile_app(app, edge_map(app, 77), OPTIONS)
    assert all(message.name == name for messages in static.values() for name, message in messages.items())
    addresses = [address(listener) for listener in static[LISTENER].values()]
    assert len(addresses) == len(set(addresses))


@given(apps())
def test_the_same_app_gives_the_same_bytes(app: App) -> None:
    assert flat(compile_app(app, edge_map(app, 77), OPTIONS)) == flat(compile_app(app, edge_map(app, 77), OPTIONS))


@given(apps())
def test_every_call_between_services_either_has_an_edge_or_is_denied_with_words(app: App) -> None:
    edges = edge_map(app, 77)
    listeners = compile_app(app, edges, OPTIONS)[LISTENER]
    by_address = {address(listener): name for name, listener in listeners.items()}
    for caller in app.services:
        for callee in app.services:
            if callee.port is None:
                continue
            name = by_address[edges.address(caller.name, callee.name), callee.port]
            wanted = f"edge.{caller.name}.{callee.name}." if callee.name in caller.calls else f"deny.{caller.name}."
            assert name.startswith(wanted)


@given(apps(), st.integers(1, 5))
def test_a_deploy_that_touches_no_address_changes_no_listener(app: App, replicas: int) -> None:
    changed = replace(
        app, services=tuple(replace(s, replicas=replicas, folder="/new", health="/h") for s in app.services)
    )
    before, after = (compile_app(x, edge_map(app, 77), OPTIONS)[LISTENER] for x in (app, changed))
    assert flat({LISTENER: before}) == flat({LISTENER: after})


@given(apps(), st.data())
def test_a_new_call_adds_its_edge_and_changes_no_listener_that_stays(app: App, data: st.DataObject) -> None:
    caller = data.draw(st.sampled_from(app.services))
    missing = sorted({s.name for s in app.services} - set(caller.calls))
    if not missing:
        return
    more = replace(caller, calls=(*caller.calls, data.draw(st.sampled_from(missing))))
    changed = replace(app, services=tuple(more if s is caller else s for s in app.services))
    # Edge numbers are kept once given: the new one is leased after all others.
    edges = edge_map(app, 77)
    new = Edge(caller=caller.name, callee=more.calls[-1], number=500)
    grown = EdgeMap(network=77, edges={**edges.edges, (new.caller, new.callee): new})
    before, after = compile_app(app, edges, OPTIONS)[LISTENER], compile_app(changed, grown, OPTIONS)[LISTENER]
    assert {name: before[name] for name in before.keys() & after.keys()} == {
        name: after[name] for name in before.keys() & after.keys()
    }


def service(name: str, port: int | None = None, *, calls: tuple[str, ...] = (), publish: bool = False) -> Service:
    return Service(name=name, workload=Command(argv=("x",)), folder="/", port=port, publish=publish, calls=calls)


def test_a_worker_is_reached_by_nobody() -> None:
    app = App(name="app", services=(service("worker", calls=("web",)), service("web", 80, calls=("worker",))))
    static = compile_app(app, edge_map(app, 77), OPTIONS)
    assert not [name for name in static[CLUSTER] if name.startswith("worker")]
    assert "edge.worker.web.80" in static[LISTENER]
    assert not [name for name in static[LISTENER] if ".web.worker" in name]


def test_an_edge_that_was_declared_once_is_denied_with_words() -> None:
    """Replicas that were started before still have the old name in their hosts file."""
    app = App(name="app", services=(service("a"), service("b", 80)))
    edges = EdgeMap(network=77, edges={("a", "b"): Edge(caller="a", callee="b", number=9)})
    listeners = compile_app(app, edges, OPTIONS)[LISTENER]
    assert address(listeners["deny.a.127.77.0.9.80"]) == ("127.77.0.9", 80)


def test_an_edge_that_was_never_leased_is_a_defect() -> None:
    app = App(name="app", services=(service("a", calls=("b",)), service("b", 80)))
    with pytest.raises(KeyError):
        compile_app(app, EdgeMap(network=77), OPTIONS)


def test_without_ipv6_there_is_no_listener_on_it() -> None:
    app = App(name="app", services=(service("a", 80, publish=True),), gateway=Gateway(port=81, routes=()))
    with_v6 = compile_app(app, edge_map(app, 77), OPTIONS)[LISTENER]
    without = compile_app(app, edge_map(app, 77), replace(OPTIONS, ipv6=False))[LISTENER]
    assert with_v6.keys() - without.keys() == {"publish.a.80.v6", "gateway.v6"}
    assert address(with_v6["publish.a.80.v6"]) == ("::1", 80)


def test_listeners_of_denied_calls_are_bounded() -> None:
    app = App(name="app", services=tuple(service(f"s{n}", 1000 + n) for n in range(20)))
    listeners = compile_app(app, edge_map(app, 77), replace(OPTIONS, deny_listeners_max=7))[LISTENER]
    assert len([name for name in listeners if name.startswith("deny.")]) == 7


def test_a_caller_without_a_deny_address_has_no_deny_listener() -> None:
    app = App(name="app", services=(service("a", 80), service("b", 81)))
    edges = edge_map(app, 77)
    only_b = EdgeMap(network=77, edges={pair: e for pair, e in edges.edges.items() if pair == ("b", DENIED)})
    denials = [name for name in compile_app(app, only_b, OPTIONS)[LISTENER] if name.startswith("deny.")]
    assert denials == ["deny.b.127.77.0.2.80", "deny.b.127.77.0.2.81"]


def test_text_of_the_app_file_cannot_give_envoy_a_command() -> None:
    routes = (Route(service="a", path="/%REQ(COOKIE)%"),)
    app = App(name="app", services=(service("a", 80),), gateway=Gateway(port=81, routes=routes))
    gateway = compile_app(app, edge_map(app, 77), OPTIONS)[ROUTES]["gateway"]
    (way_out,) = {
        route.direct_response.body_format.json_format["way_out"]
        for route in gateway.virtual_hosts[0].routes
        if route.direct_response.body_format.HasField("json_format")
    }
    assert way_out == "known paths: /%%REQ(COOKIE)%%"


def test_a_thousand_paths_are_not_all_listed() -> None:
    routes = tuple(Route(service="a", path=f"/p{n:04}") for n in range(1000))
    app = App(name="app", services=(service("a", 80),), gateway=Gateway(port=81, routes=routes))
    gateway = compile_app(app, edge_map(app, 77), OPTIONS)[ROUTES]["gateway"]
    assert "and 980 more" in str(gateway.virtual_hosts[0].routes[-1])


def test_endpoints_are_in_the_order_of_their_replicas_and_carry_their_ids() -> None:
    ready = [Endpoint(replica=f"a-r{n}", address=TcpAddress(host="127.0.0.1", port=n)) for n in (3, 1, 2)]
    assert assignment("a", ready) == assignment("a", sorted(ready, key=lambda e: e.replica))
    (group,) = assignment("a", ready).endpoints
    ids = [e.metadata.filter_metadata["shoal"]["replica"] for e in group.lb_endpoints]
    assert ids == ["a-r1", "a-r2", "a-r3"]


def test_a_snapshot_passes_on_the_same_objects_and_gives_an_empty_assignment_where_there_is_none() -> None:
    app = App(name="app", services=(service("a", 80), service("b", 81)))
    static = compile_app(app, edge_map(app, 77), OPTIONS)
    a = assignment("a", [])
    one, two = (assemble(static, {"a": a}, version=n, replicas=frozenset()) for n in (1, 2))
    assert one.resources[ENDPOINTS]["a"] is a
    assert one.resources[ENDPOINTS]["b"] is two.resources[ENDPOINTS]["b"]
    assert one.resources[CLUSTER]["a"] is static[CLUSTER]["a"]


def test_the_caller_is_read_back_from_the_name_of_its_routes() -> None:
    assert caller_of(denial_routes_name("cart-service")) == "cart-service"
    assert caller_of("service.cart-service") is None


def test_where_nobody_knows_who_calls_each_service_has_an_address_that_names_no_caller() -> None:
    """And every declared edge stays what it is."""
    called = (service("web", 3000), replace(service("db", 6379), protocol=Protocol.TCP), service("worker"))
    app = App(name="app", services=(*called, service("caller", 3001, calls=("web",))))
    edges = edge_map(app, 77)
    leased = {
        (ANYBODY, name): Edge(caller=ANYBODY, callee=name, number=900 + n)
        for n, name in enumerate(("web", "db", "caller"))
    }
    known = compile_app(app, edges, OPTIONS)
    both = compile_app(app, replace(edges, edges={**edges.edges, **leased}), OPTIONS)
    added = both[LISTENER].keys() - known[LISTENER].keys()
    assert added == {"edge.@.web.3000", "edge.@.db.6379", "edge.@.caller.3001"}
    assert address(both[LISTENER]["edge.@.web.3000"]) == ("127.77.3.132", 3000)
    assert {name: both[LISTENER][name] for name in known[LISTENER]} == known[LISTENER]
    assert b"x-shoal-caller" not in both[LISTENER]["edge.@.web.3000"].SerializeToString()
    assert b"x-shoal-caller" in both[LISTENER]["edge.caller.web.3000"].SerializeToString()
