"""One stream of the delta protocol, driven by hand and by hypothesis. Time is a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shoal.mesh.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, TYPES, Message, Snapshot
from shoal.xds.library import Library
from shoal.xds.session import REMOVAL_S_MAX, RETRY_S, RETRY_S_MAX, WARM_S_MAX, Response, Session
from shoal.xds.wire import Request
from tests.support.xds_client import Client, make_cluster, make_endpoints, make_listener, make_routes

_versions = iter(range(1, 1_000_000))


def snapshot(*messages: Message) -> Snapshot:
    resources: dict[str, dict[str, Message]] = {type_url: {} for type_url in TYPES}
    for message in messages:
        type_url = f"type.googleapis.com/{message.DESCRIPTOR.full_name}"
        resources[type_url][getattr(message, "cluster_name", "") or message.name] = message
    return Snapshot(version=next(_versions), resources=resources)


def service(name: str, *, cluster: int = 0, endpoints: int = 0) -> list[Message]:
    return [make_cluster(name, cluster), make_endpoints(name, endpoints)]


class Pair:
    """A session and a client, joined; nothing is lost, nothing is late."""

    def __init__(self, *messages: Message, client: Client | None = None) -> None:
        self.library = Library()
        self.library.publish(snapshot(*messages))
        self.client = client or Client()
        self.now = 1000.0
        self.said: list[Response] = []
        self.connect()

    def connect(self) -> None:
        self.session = Session(self.library)
        self.client.connect()
        self.talk()

    def publish(self, *messages: Message) -> None:
        self.session.changed(self.library.publish(snapshot(*messages)))

    def send(self) -> Response | None:
        response = self.session.next_response(self.now)
        if response is not None:
            self.said.append(response)
        return response

    def hear(self) -> None:
        while self.client.outgoing:
            self.session.receive(self.client.outgoing.pop(0), self.now)

    def talk(self) -> list[Response]:
        """Until both are silent; what was sent."""
        self.said = []
        self.hear()
        while (response := self.send()) is not None:
            self.client.handle(response)
            self.hear()
        return self.said

    def wait(self, seconds: float) -> list[Response]:
        self.now += seconds
        return self.talk()


def kinds(responses: Iterable[Response]) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """(type's last word, names sent, names removed)"""
    return [(r.type_url.rpartition(".")[2], tuple(x.name for x in r.resources), r.removed) for r in responses]


def versions(library: Library, client: Client) -> tuple[Mapping[str, object], Mapping[str, object]]:
    wanted = {t: {n: r.version for n, r in library.resources[t].items()} for t in TYPES}
    return wanted, {t: {n: r.version for n, r in client.has[t].items()} for t in TYPES}


SHOP = [*service("a"), *service("b"), make_listener("door", "paths"), make_routes("paths", ("a", "b"))]


def test_a_new_client_is_given_everything_in_the_order_make_before_break() -> None:
    pair = Pair(*SHOP)
    wanted, has = versions(pair.library, pair.client)
    assert has == wanted
    assert [kind for kind, _, _ in kinds(pair.said)] == [
        "Cluster",
        "ClusterLoadAssignment",
        "Listener",
        "RouteConfiguration",
    ]
    assert pair.session.in_sync


def test_a_client_that_starts_is_answered_even_when_there_is_nothing() -> None:
    pair = Pair()
    assert kinds(pair.said) == [("Cluster", (), ()), ("Listener", (), ())]
    assert pair.session.in_sync


def test_a_session_is_not_in_sync_before_it_was_asked_for_anything() -> None:
    assert not Session(Library()).in_sync


def test_a_client_that_comes_back_to_another_control_plane_is_sent_nothing() -> None:
    pair = Pair(*SHOP)
    client, before = pair.client, pair.client.received
    again = Pair(*SHOP, client=client)
    assert again.said == []
    assert client.received == before
    assert again.session.in_sync


def test_what_changed_while_the_control_plane_was_away_is_sent_and_nothing_else() -> None:
    client = Pair(*SHOP).client
    after = [
        *service("a", endpoints=1),
        *service("c"),
        make_listener("door", "paths"),
        make_routes("paths", ("a", "c")),
    ]
    pair = Pair(*after, client=client)
    assert kinds(pair.said) == [
        ("Cluster", ("c",), ()),
        ("ClusterLoadAssignment", ("a", "c"), ()),
        ("RouteConfiguration", ("paths",), ()),
        ("Cluster", (), ("b",)),
    ]
    wanted, has = versions(pair.library, client)
    assert has == wanted


def test_endpoints_alone_take_one_small_response() -> None:
    pair = Pair(*SHOP)
    pair.publish(*service("a", endpoints=1), *SHOP[2:])
    assert kinds(pair.talk()) == [("ClusterLoadAssignment", ("a",), ())]


def test_an_equal_snapshot_sends_nothing() -> None:
    pair = Pair(*SHOP)
    pair.publish(*service("a"), *service("b"), make_listener("door", "paths"), make_routes("paths", ("a", "b")))
    assert pair.talk() == []
    assert pair.session.in_sync


def test_a_changed_cluster_is_followed_by_its_unchanged_endpoints() -> None:
    pair = Pair(*SHOP)
    pair.publish(*service("a", cluster=1), *SHOP[2:])
    assert kinds(pair.talk()) == [("Cluster", ("a",), ()), ("ClusterLoadAssignment", ("a",), ())]
    assert pair.session.in_sync


def test_endpoints_that_were_under_way_before_the_cluster_do_not_make_it_warm() -> None:
    pair = Pair(*SHOP)
    pair.publish(*service("a", endpoints=1), *SHOP[2:])
    early = pair.send()
    pair.publish(*service("a", endpoints=1, cluster=1), *SHOP[2:])
    cluster = pair.send()
    assert early is not None and cluster is not None
    pair.client.handle(early)
    pair.client.handle(cluster)
    pair.hear()
    assert not pair.session.in_sync
    assert kinds(pair.talk()) == [("ClusterLoadAssignment", ("a",), ())]
    assert pair.session.in_sync


def test_routes_wait_until_the_cluster_they_lead_to_is_warm() -> None:
    pair = Pair(*SHOP)
    pair.publish(*SHOP[:5], *service("c"), make_routes("paths", ("a", "b", "c")))
    first = pair.send()
    assert first is not None and kinds([first]) == [("Cluster", ("c",), ())]
    assert pair.send() is None
    pair.client.handle(first)
    pair.hear()
    second = pair.send()
    assert second is not None and kinds([second]) == [("ClusterLoadAssignment", ("c",), ())]
    assert pair.send() is None
    pair.client.handle(second)
    assert kinds(pair.talk()) == [("RouteConfiguration", ("paths",), ())]


def test_routes_to_other_clusters_do_not_wait() -> None:
    pair = Pair(*SHOP)
    pair.publish(*SHOP, *service("c"), make_listener("side", "side"), make_routes("side", ("c",)))
    pair.publish(*SHOP[:5], make_routes("paths", ("a",)), *service("c"))
    assert kinds(r for r in (pair.send(), pair.send()) if r) == [
        ("Cluster", ("c",), ()),
        ("RouteConfiguration", ("paths",), ()),
    ]


def test_routes_wait_no_longer_than_the_gate_allows() -> None:
    pair = Pair(*SHOP)
    pair.publish(*SHOP[:5], *service("c"), make_routes("paths", ("a", "b", "c")))
    pair.send()  # the cluster, which the client never confirms
    assert pair.send() is None
    assert pair.session.deadline() == pair.now + WARM_S_MAX
    pair.now += WARM_S_MAX
    response = pair.send()
    assert response is not None and kinds([response]) == [("RouteConfiguration", ("paths",), ())]
    assert "cluster c is not warm" in pair.session.take_overdue()[0]


def test_a_changed_cluster_that_serves_with_its_old_settings_holds_no_routes_back() -> None:
    pair = Pair(*SHOP)
    pair.publish(*service("a", cluster=1), *SHOP[2:5], make_routes("paths", ("a", "b"), 1))
    assert {kind for kind, _, _ in kinds(r for r in (pair.send(), pair.send(), pair.send()) if r)} == {
        "Cluster",
        "ClusterLoadAssignment",
        "RouteConfiguration",
    }


def test_a_cluster_is_removed_after_the_routes_that_lead_to_it() -> None:
    pair = Pair(*SHOP)
    pair.publish(*service("a"), make_listener("door", "paths"), make_routes("paths", ("a",)))
    first = pair.send()
    assert first is not None and kinds([first]) == [("RouteConfiguration", ("paths",), ())]
    assert pair.send() is None
    pair.client.handle(first)
    assert kinds(pair.talk()) == [("Cluster", (), ("b",))]


def test_a_cluster_outlives_its_removal_while_a_draining_listener_leads_to_it_but_not_for_ever() -> None:
    pair = Pair(*SHOP, *service("c"), make_listener("side", "side"), make_routes("side", ("c",)))
    pair.client._ask = lambda: None  # type: ignore[method-assign]  # it drains, and does not unsubscribe yet
    pair.publish(*SHOP)
    assert kinds(pair.talk()) == [("Listener", (), ("side",))]
    assert pair.session.in_sync
    assert pair.wait(REMOVAL_S_MAX - 0.1) == []
    assert kinds(pair.wait(0.1)) == [("Cluster", (), ("c",))]
    assert "cluster c is removed although" in pair.session.take_overdue()[0]


def test_a_cluster_that_comes_back_before_it_was_removed_stays() -> None:
    pair = Pair(*SHOP)
    pair.publish(*service("a"), make_listener("door", "paths"), make_routes("paths", ("a",)))
    pair.send()
    pair.publish(*SHOP)
    pair.said[-1:] and pair.client.handle(pair.said[-1])
    assert kinds(pair.talk()) == [("RouteConfiguration", ("paths",), ())]
    wanted, has = versions(pair.library, pair.client)
    assert has == wanted


def test_a_listener_that_goes_is_removed_in_the_response_that_brings_the_next_one() -> None:
    pair = Pair(*SHOP)
    pair.publish(*SHOP[:4], make_listener("window", "paths"), SHOP[5])
    assert kinds(pair.talk()) == [("Listener", ("window",), ("door",))]


def test_clusters_with_their_own_addresses_are_warm_when_confirmed() -> None:
    pair = Pair(make_cluster("fixed", eds=False), make_listener("door", "paths"), make_routes("paths", ("fixed",)))
    assert pair.session.in_sync
    assert [kind for kind, _, _ in kinds(pair.said)] == ["Cluster", "Listener", "RouteConfiguration"]


@pytest.mark.parametrize("bad", range(7))
def test_one_bad_resource_is_found_and_all_others_go_through(bad: int) -> None:
    client = Client(refuses={(CLUSTER, f"s{bad}")})
    pair = Pair(*[m for n in range(7) for m in service(f"s{n}")], client=client)
    assert sorted(client.has[CLUSTER]) == sorted({f"s{n}" for n in range(7)} - {f"s{bad}"})
    rejections = pair.session.take_rejections()
    assert [(r.name, r.message) for r in rejections] == [(f"s{bad}", f"will not take s{bad}")]
    assert pair.session.in_sync
    assert pair.session.refusals == ((f"s{bad}", f"will not take s{bad}"),)


def test_routes_to_a_refused_cluster_are_not_held_back() -> None:
    pair = Pair(*SHOP, client=Client(refuses={(CLUSTER, "b")}))
    assert "paths" in pair.client.has[ROUTES]
    assert pair.session.in_sync


def test_a_refused_resource_is_sent_again_when_it_changes() -> None:
    client = Client(refuses={(CLUSTER, "a")})
    pair = Pair(*SHOP, client=client)
    client.refuses.clear()
    assert pair.talk() == []
    pair.publish(*service("a", cluster=1), *SHOP[2:])
    assert kinds(pair.talk())[0] == ("Cluster", ("a",), ())
    assert pair.session.refusals == ()


def test_a_refused_resource_is_offered_again_after_a_growing_while() -> None:
    client = Client(refuses={(LISTENER, "door")})
    pair = Pair(*SHOP, client=client)
    for wait_s in (RETRY_S, RETRY_S * 2, RETRY_S * 4, RETRY_S * 8, RETRY_S_MAX, RETRY_S_MAX):
        assert pair.wait(wait_s - 0.001) == []
        assert kinds(pair.wait(0.001)) == [("Listener", ("door",), ())]
    client.refuses.clear()  # its port is free
    assert kinds(pair.wait(RETRY_S_MAX))[0] == ("Listener", ("door",), ())
    wanted, has = versions(pair.library, client)
    assert has == wanted
    assert pair.session.refusals == ()
    assert pair.session.deadline() is None


def test_refused_endpoints_are_never_in_sync_because_the_old_ones_go_on_being_used() -> None:
    pair = Pair(*SHOP)
    pair.client.refuses.add((ENDPOINTS, "a"))
    pair.publish(*service("a", endpoints=1), *SHOP[2:])
    pair.talk()
    assert not pair.session.in_sync


def test_the_good_part_of_a_refused_response_is_removed_if_it_has_left_the_snapshot_by_then() -> None:
    pair = Pair(*SHOP, client=Client(refuses={(LISTENER, "l.bad")}))
    pair.publish(*SHOP, make_listener("l.bad", "paths"), make_listener("l.good", "paths"))
    both = pair.send()
    assert both is not None
    pair.publish(*SHOP)
    pair.client.handle(both)
    assert "l.good" in pair.client.has[LISTENER]
    pair.talk()
    assert list(pair.client.has[LISTENER]) == ["door"]
    assert pair.session.in_sync


def test_nothing_is_removed_before_a_client_that_came_back_has_said_which_routes_it_has() -> None:
    client = Pair(*SHOP).client
    library = Library()
    library.publish(snapshot(*service("a"), make_listener("door", "paths"), make_routes("paths", ("a",))))
    session = Session(library)
    client.connect()
    said: list[Response] = []
    while client.outgoing:
        session.receive(client.outgoing.pop(0), 0.0)
        while (response := session.next_response(0.0)) is not None:
            said.append(response)
    assert kinds(said) == [("RouteConfiguration", ("paths",), ())]


def test_an_answer_to_an_earlier_response_is_ignored() -> None:
    pair = Pair(*SHOP)
    pair.publish(*service("a", endpoints=1), *SHOP[2:])
    response = pair.send()
    assert response is not None
    for stale in ("0", str(int(response.nonce) - 1), ""):
        pair.session.receive(Request(type_url=ENDPOINTS, nonce=stale, error="too late"), pair.now)
    assert pair.session.take_rejections() == []
    assert not pair.session.in_sync
    pair.client.handle(response)
    pair.talk()
    assert pair.session.in_sync


def test_what_is_asked_for_again_is_sent_again() -> None:
    pair = Pair(*SHOP)
    pair.session.receive(Request(type_url=ENDPOINTS, subscribe=("a",)), pair.now)
    assert kinds(pair.talk()) == [("ClusterLoadAssignment", ("a",), ())]


def test_what_is_asked_for_and_does_not_exist_is_said_to_be_gone() -> None:
    pair = Pair(*SHOP)
    pair.session.receive(Request(type_url=ROUTES, subscribe=("nothing",)), pair.now)
    assert kinds(pair.talk()) == [("RouteConfiguration", (), ("nothing",))]


def test_types_that_nobody_serves_here_are_ignored() -> None:
    pair = Pair(*SHOP)
    pair.session.receive(Request(type_url="type.googleapis.com/envoy.service.runtime.v3.Runtime"), pair.now)
    assert pair.talk() == []


NAMES = ("a", "b", "c")
BAD = 9
"""The variant that a client refuses."""


@dataclass(frozen=True)
class Recipe:
    """A snapshot in few words, for readable failures."""

    services: tuple[tuple[str, int, int, int | None], ...]
    """(name, variant of its cluster, of its endpoints, of its listener if it has one)"""
    gateway: tuple[int, tuple[str, ...]] | None
    """(variant of its routes, where they lead)"""

    def messages(self) -> list[Message]:
        made = []
        for name, cluster, endpoints, listener in self.services:
            made += [_cluster(name, cluster), _endpoints(name, endpoints)]
            if listener is not None:
                made += [_listener(f"l.{name}", f"r.{name}", listener), _routes(f"r.{name}", (name,), 0)]
        if self.gateway is not None:
            made += [_listener("gateway", "gateway", 0), _routes("gateway", self.gateway[1], self.gateway[0])]
        return made


_cluster, _endpoints = cache(make_cluster), cache(make_endpoints)
_listener, _routes = cache(make_listener), cache(make_routes)

VARIANT = st.sampled_from((0, 1, BAD))


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Some services; a listener for some; a gateway to some. Sometimes a part that the client refuses."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    services = [(n, draw(VARIANT), draw(st.integers(0, 1)), draw(st.none() | VARIANT)) for n in names]
    to = tuple(name for name in names if draw(st.booleans()))
    return Recipe(tuple(services), (draw(VARIANT), to) if draw(st.booleans()) else None)


def bad_versions() -> set[tuple[str, str]]:
    library = Library()
    found = set()
    for name in NAMES:
        library.publish(
            snapshot(
                make_cluster(name, BAD),
                make_listener(f"l.{name}", f"r.{name}", BAD),
            )
        )
        found |= {(t, r.version) for t in TYPES for r in library.resources[t].values()}
    for some in (some for length in range(4) for some in permutations(NAMES, length)):
        library.publish(snapshot(make_routes("gateway", some, BAD)))
        found |= {(t, r.version) for t in TYPES for r in library.resources[t].values()}
    return found


BAD_VERSIONS = bad_versions()


class Stream(RuleBasedStateMachine):
    """Both sides with everything late, in any order that a stream allows, cut off and begun again."""

    def __init__(self) -> None:
        super().__init__()
        self.library = Library()
        self.client = Client(refuses=set(BAD_VERSIONS))
        self.under_way: list[tuple[Response, frozenset[str]]] = []
        """With the clusters that were in quarantine when it was sent: routes do not wait for those."""
        self.now = 0.0
        self.excused = False
        """A gate was opened by its time-out."""

    @initialize(recipe=recipes())
    def begin(self, recipe: Recipe) -> None:
        self.library.publish(snapshot(*recipe.messages()))
        self.reconnect()

    @rule(recipe=recipes())
    def publish(self, recipe: Recipe) -> None:
        self.session.changed(self.library.publish(snapshot(*recipe.messages())))

    @rule()
    def send(self) -> None:
        self.take_response()

    def take_response(self) -> bool:
        response = self.session.next_response(self.now)
        self.excused |= bool(self.session.take_overdue())
        if response is not None:
            self.under_way.append((response, frozenset(self.session._shelves[CLUSTER].refused)))
        return response is not None

    @precondition(lambda self: self.under_way)
    @rule()
    def client_reads(self) -> None:
        """What it reads leads to nothing that is not warm, and takes away nothing that is led to."""
        response, refused = self.under_way.pop(0)
        self.client.handle(response)
        dangling = self.client.take_dangling() - refused
        assert self.excused or not dangling, f"routes lead to {dangling}, not there after {kinds([response])}"

    @precondition(lambda self: self.client.outgoing)
    @rule()
    def server_reads(self) -> None:
        self.session.receive(self.client.outgoing.pop(0), self.now)

    @rule(seconds=st.sampled_from((0.01, 1.0, WARM_S_MAX, REMOVAL_S_MAX)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(type_url=st.sampled_from(TYPES), nonce=st.integers(0, 3))
    def an_old_answer_comes_late(self, type_url: str, nonce: int) -> None:
        flight = self.session._shelves[type_url].flight
        if self.session._shelves[type_url].seen and (flight is None or flight.number != nonce):
            self.session.receive(Request(type_url=type_url, nonce=str(nonce), error="old"), self.now)

    @rule()
    def reconnect(self) -> None:
        self.session = Session(self.library)
        self.under_way.clear()
        self.client.connect()

    @rule()
    def control_plane_restarts(self) -> None:
        resources = self.library.snapshot
        assert resources is not None
        self.library = Library()
        self.library.publish(resources)
        self.reconnect()

    @rule()
    def settle(self) -> None:
        """With nothing late any more: all that the client takes is there, whatever it refuses."""
        for _ in range(2000):
            progress = False
            while self.client.outgoing:
                self.server_reads()
                progress = True
            progress |= self.take_response()
            while self.under_way:
                self.client_reads()
                progress = True
            if not progress:
                self.client.wait()
                if not self.client.outgoing:
                    break
        else:
            raise AssertionError("they never stop talking")
        refused = {
            (t, n)
            for t, shelf in self.session._shelves.items()
            for n, refusal in shelf.refused.items()
            if refusal.version == self.library.resources[t][n].version
        }
        for t, n in refused:
            assert (t, self.library.resources[t][n].version) in BAD_VERSIONS, "quarantined without cause"
        for type_url in (CLUSTER, LISTENER):
            for name, resource in self.library.resources[type_url].items():
                if (type_url, name) not in refused:
                    assert self.client.has[type_url][name].version == resource.version
        for type_url in (ENDPOINTS, ROUTES):
            for name, has in self.client.has[type_url].items():
                wanted = self.library.get(type_url, name)
                if wanted is not None and (type_url, name) not in refused:
                    assert has.version == wanted.version
        assert self.session.in_sync
        # A refused resource's old version may go on leading to a cluster that is to be removed; nothing else may stay.
        self.excused = self.excused and bool(self.session._removals)

    @invariant()
    def the_client_keeps_listening(self) -> None:
        assert len(self.under_way) <= len(TYPES)

    def teardown(self) -> None:
        if self.library.snapshot is None:
            return
        good = [m for name in NAMES for m in service(name)] + [
            make_listener("gateway", "gateway"),
            make_routes("gateway", NAMES),
        ]
        self.session.changed(self.library.publish(snapshot(*good)))
        self.settle()
        self.now += REMOVAL_S_MAX
        self.settle()
        wanted, has = versions(self.library, self.client)
        assert has == wanted
        assert self.client.warm == set(NAMES)


TestStream = Stream.TestCase
TestStream.settings = settings(max_examples=80, stateful_step_count=50, suppress_health_check=list(HealthCheck))
