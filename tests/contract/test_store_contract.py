"""What `ports.Store` promises, kept by the real store and by the shipped fake alike."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shoal.errors import StoreError
from shoal.model.app import App, Command, Gateway, Names, PythonApp, Route, Service
from shoal.model.replica import Exit, Replica, ReplicaState, TcpAddress, UnixAddress, replica_id
from shoal.model.world import Desired, Revision, Target
from shoal.ports import Store
from shoal.store import promises
from shoal.store.sqlite import SqliteStore
from shoal.testing.memory_store import MemoryStore

Make = Callable[..., Store]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes stores, empty, each with the keyword arguments that both kinds take."""
    opened: list[SqliteStore] = []

    def made(**options: Any) -> Store:
        if request.param == "memory":
            return MemoryStore(**options)
        opened.append(SqliteStore(tmp_path / f"{len(opened)}.db", **options))
        return opened[-1]

    yield made
    for store in opened:
        store.close()


@pytest.fixture
def store(make: Make) -> Store:
    return make()


CART = Service(
    name="cart",
    workload=PythonApp(module="shop.carts", attribute="app"),
    folder="/shop",
    port=3002,
    publish=True,
    replicas=3,
    env=(("A", "1"), ("Ä", "ü €")),
    health="/healthz",
    calls=("products",),
    after=("products",),
    names=Names.ENV,
)
PRODUCTS = Service(name="products", workload=Command(argv=("/bin/sh", "-c", "exec node ${port}")), folder="/shop/ps")
SHOP = App(
    name="shop",
    services=(CART, PRODUCTS),
    gateway=Gateway(port=8080, routes=(Route(service="cart", path="/carts", host="shop.example"),)),
    folder="/shop",
)


def revision(service: Service = CART, number: int = 1, digest: str = "d1") -> Revision:
    return Revision(service=service, number=number, digest=digest, created_at=1_700_000_000.25)


def desired(generation: int = 1) -> Desired:
    return Desired(
        app=SHOP,
        generation=generation,
        targets={
            "cart": Target(revision=revision(), replicas=3, generation=2),
            "products": Target(revision=revision(PRODUCTS), replicas=0),
        },
    )


def replica(service: str = "cart", number: int = 1, **fields: Any) -> Replica:
    return Replica(id=replica_id(service, number), service=service, number=number, revision=1, **fields)


# What is wanted


def test_nothing_was_deployed_at_first(store: Store) -> None:
    assert store.load_desired() is None


def test_the_desired_state_comes_back_as_it_was_saved(store: Store) -> None:
    store.save_desired(desired())
    assert store.load_desired() == desired()


def test_the_services_keep_the_order_of_the_app_file(store: Store) -> None:
    store.save_desired(desired())
    loaded = store.load_desired()
    assert loaded is not None
    assert list(loaded.targets) == ["cart", "products"]


def test_a_later_desired_state_replaces_the_one_before(store: Store) -> None:
    store.save_desired(desired(1))
    store.save_desired(replace(desired(2), targets={}, down=True))
    assert store.load_desired() == replace(desired(2), targets={}, down=True)


def test_what_is_done_to_a_value_after_saving_it_does_not_change_the_store(store: Store) -> None:
    mine = desired()
    store.save_desired(mine)
    mine.targets.clear()
    loaded = store.load_desired()
    assert loaded == desired()
    loaded.targets.clear()
    assert store.load_desired() == desired()


# Revisions


def test_a_service_without_revisions_has_none(store: Store) -> None:
    assert list(store.revisions("cart")) == []


def test_revisions_come_oldest_first_and_of_their_service_only(store: Store) -> None:
    for number in (1, 3, 2, 10):
        store.add_revision(revision(number=number))
    store.add_revision(revision(PRODUCTS))
    assert [r.number for r in store.revisions("cart")] == [1, 2, 3, 10]
    assert list(store.revisions("products")) == [revision(PRODUCTS)]


def test_the_same_revision_may_be_added_again_and_the_first_stays(store: Store) -> None:
    store.add_revision(revision())
    store.add_revision(replace(revision(), created_at=1_800_000_000.0))
    assert list(store.revisions("cart")) == [revision()]


def test_a_revision_never_changes(store: Store) -> None:
    store.add_revision(revision(digest="d1"))
    with pytest.raises(StoreError, match="revision 1 of service 'cart' exists with another content"):
        store.add_revision(revision(digest="d2"))
    assert list(store.revisions("cart")) == [revision(digest="d1")]


def test_revisions_are_deleted_by_their_numbers_and_no_others(store: Store) -> None:
    for number in (1, 2, 3):
        store.add_revision(revision(number=number))
    store.add_revision(revision(PRODUCTS))
    store.delete_revisions("cart", [1, 3, 99])
    store.delete_revisions("nobody", [1])
    store.delete_revisions("products", [])
    assert {name: [r.number for r in known] for name, known in store.every_revision().items()} == {
        "cart": [2],
        "products": [1],
    }
    store.delete_revisions("cart", [2])
    assert list(store.every_revision()) == ["products"]


# Replicas and their numbers


@pytest.mark.parametrize(
    "saved",
    [
        replica(),
        replica(address=UnixAddress(path="/run/x.sock"), pid=7, state=ReplicaState.READY, ready_since=5.5),
        replica(address=TcpAddress(host="127.0.0.1", port=41233), attempt=3, crashes=2, progress="installing"),
        replica(last_exit=Exit(at=3.0, code=-9, tail=("line 1", "ünïcode 🐟", "\x00\x1b[31m")), since=4.0),
        replica(last_exit=Exit(at=3.0, error="no such file"), state=ReplicaState.BACKING_OFF),
    ],
    ids=["new", "ready", "tcp", "killed", "never ran"],
)
def test_a_replica_comes_back_as_it_was_saved(store: Store, saved: Replica) -> None:
    store.save_replica(saved)
    assert list(store.load_replicas()) == [saved]


def test_replicas_come_by_service_and_number(store: Store) -> None:
    for service, number in [("cart", 10), ("cart", 2), ("api", 3)]:
        store.save_replica(replica(service, number))
    assert [r.id for r in store.load_replicas()] == ["api-r3", "cart-r2", "cart-r10"]


def test_saving_a_replica_again_replaces_it(store: Store) -> None:
    store.save_replica(replica())
    store.save_replica(replica(state=ReplicaState.READY))
    assert list(store.load_replicas()) == [replica(state=ReplicaState.READY)]


def test_deleting_a_replica_leaves_the_others_and_twice_is_fine(store: Store) -> None:
    store.save_replica(replica(number=1))
    store.save_replica(replica(number=2))
    store.delete_replica("cart-r1")
    store.delete_replica("cart-r1")
    store.delete_replica("never-r1")
    assert [r.id for r in store.load_replicas()] == ["cart-r2"]


def test_no_replica_number_is_given_twice(store: Store) -> None:
    assert store.next_numbers() == {}
    store.save_replica(replica(number=1))
    store.save_replica(replica(number=2))
    assert store.next_numbers() == {"cart": 3}
    store.delete_replica("cart-r2")
    store.delete_replica("cart-r1")
    assert store.next_numbers() == {"cart": 3}
    store.save_replica(replica(number=1))
    assert store.next_numbers() == {"cart": 3}
    store.save_replica(replica("api", 7))
    assert store.next_numbers() == {"cart": 3, "api": 8}


# Edges


def test_an_edge_keeps_its_number_for_ever(store: Store) -> None:
    first = store.lease_edges([("cart", "products"), ("cart", "*")])
    second = store.lease_edges([("web", "cart"), ("cart", "*"), ("cart", "products")])
    assert second[("cart", "products")] == first[("cart", "products")]
    assert second[("cart", "*")] == first[("cart", "*")]
    assert len(set(second.values())) == 3


def test_edge_numbers_leave_out_the_one_of_the_networks_lease(store: Store) -> None:
    assert min(store.lease_edges([("a", "b"), ("b", "a")]).values()) == 2


def test_a_pair_asked_for_twice_gets_one_number(store: Store) -> None:
    assert store.lease_edges([("a", "b"), ("a", "b"), ("a", "c")]) == {("a", "b"): 2, ("a", "c"): 3}
    assert store.lease_edges([]) == {}


def test_when_the_numbers_are_used_up_it_says_so_and_leases_none(store: Store) -> None:
    many = [("a", f"s{number}") for number in range(len(promises.EDGES) - 1)]
    numbers = store.lease_edges(many)
    assert len(set(numbers.values())) == len(many)
    with pytest.raises(StoreError, match="all 65,534 edge addresses of this app are used up, and 2 more are wanted"):
        store.lease_edges([("b", "x"), *many[:3], ("b", "y")])
    assert store.lease_edges([("b", "x"), many[0]]) == {("b", "x"): 65_535, many[0]: 2}


# Settings


def test_settings_are_kept_by_their_key(store: Store) -> None:
    assert store.get("network") is None
    store.put("network", "77")
    store.put("other", "")
    store.put("network", "78")
    assert (store.get("network"), store.get("other")) == ("78", "")


# The journal


def write(store: Store, count: int, subject: str = "app") -> None:
    for _ in range(count):
        store.append(1.5, "Kind", subject, f"about {subject}", {})


def test_an_entry_comes_back_as_append_gave_it(store: Store) -> None:
    entry = store.append(5, "ReplicaExited", "cart-r1", "exit code 1 🐟", {"tail": ("a", "b"), "code": 1, "x": None})
    assert (entry.sequence, entry.at, entry.data) == (1, 5.0, {"tail": ["a", "b"], "code": 1, "x": None})
    assert list(store.journal()) == [entry]


def test_sequences_grow_by_one(store: Store) -> None:
    write(store, 5)
    assert [e.sequence for e in store.journal()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("after", "limit", "found"),
    [
        (0, 1000, [1, 2, 3, 4, 5]),
        (2, 1000, [3, 4, 5]),
        (2, 2, [3, 4]),
        (5, 1000, []),
        (99, 1000, []),
        (-2, 1000, [4, 5]),
        (-99, 1000, [1, 2, 3, 4, 5]),
        (-5, 2, [4, 5]),
        (0, 0, []),
        (-3, 0, []),
        (0, -1, []),
    ],
)
def test_the_journal_is_read_from_a_sequence_or_from_its_end(
    store: Store, after: int, limit: int, found: list[int]
) -> None:
    write(store, 5)
    assert [e.sequence for e in store.journal(after=after, limit=limit)] == found


def test_the_journal_of_a_service_holds_its_replicas_and_no_others(store: Store) -> None:
    subjects = ["app", "cart", "cart-r1", "cart-r12", "cart-r1-r2", "cart-rx", "cart-service", "cart-service-r1", "r1"]
    for subject in subjects:
        write(store, 1, subject)

    def found(subject: str) -> list[str]:
        return [e.subject for e in store.journal(subject=subject)]

    assert found("cart") == ["cart", "cart-r1", "cart-r12"]
    assert found("cart-r1") == ["cart-r1", "cart-r1-r2"]
    assert found("cart-service") == ["cart-service", "cart-service-r1"]
    assert found("app") == ["app"]
    assert found("nobody") == []


def test_the_last_of_a_subject_are_counted_among_its_own(store: Store) -> None:
    for subject in ["cart-r1", "cart-r2", "cart", "app", "app"]:
        write(store, 1, subject)
    assert [e.sequence for e in store.journal(after=-2, subject="cart")] == [2, 3]


def test_the_journal_keeps_the_newest_and_goes_on_counting(make: Make) -> None:
    store = make(journal_kept=10)
    write(store, 25)
    assert [e.sequence for e in store.journal()] == list(range(16, 26))
    assert [e.sequence for e in store.journal(after=-100)] == list(range(16, 26))
    assert [e.sequence for e in store.journal(after=3, limit=2)] == [16, 17]


def test_foreign_bytes_in_a_message_are_written_out(store: Store) -> None:
    store.append(1.0, "Kind", "app", "caf\udce9", {"line": "caf\udce9"})
    (entry,) = store.journal()
    assert entry.message == "caf\\udce9"
    assert entry.data == {"line": "caf\udce9"}


def test_what_json_cannot_say_is_refused(store: Store) -> None:
    with pytest.raises(TypeError):
        store.append(1.0, "Kind", "app", "a set", {"x": {1}})
    with pytest.raises(ValueError, match="JSON compliant"):
        store.append(1.0, "Kind", "app", "not a number", {"x": float("nan")})
    assert list(store.journal()) == []
    assert store.append(1.0, "Kind", "app", "next", {}).sequence == 1


# The two side by side

names = st.sampled_from(["a", "a-r1", "b", "cart-service"])
texts = st.text(st.characters(exclude_categories=()), max_size=10)
data = st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.lists(st.text(max_size=3)), max_size=2)
times = st.floats(min_value=0, max_value=2e9)


class Twins(RuleBasedStateMachine):
    """The same calls to both stores give the same answers; the one on disk may be closed and opened in between."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "state.db"
        self.disk = SqliteStore(self.path, journal_kept=20)
        self.memory = MemoryStore(journal_kept=20)

    def both(self, call: Callable[[Store], Any]) -> None:
        answers: list[Any] = []
        for store in (self.disk, self.memory):
            try:
                answers.append(call(store))
            except StoreError as error:
                answers.append(str(error))
        assert answers[0] == answers[1]

    @rule(generation=st.integers(0, 5), down=st.booleans(), services=st.sets(names))
    def save_desired(self, generation: int, down: bool, services: set[str]) -> None:
        wanted = {name: Target(revision=revision(), replicas=generation) for name in sorted(services)}
        value = Desired(app=SHOP, generation=generation, down=down, targets=wanted)
        self.both(lambda s: s.save_desired(value))

    @rule(name=names, number=st.integers(1, 4), digest=st.sampled_from(["x", "y"]))
    def add_revision(self, name: str, number: int, digest: str) -> None:
        value = revision(replace(PRODUCTS, name=name), number, digest)
        self.both(lambda s: s.add_revision(value))

    @rule(name=names, numbers=st.lists(st.integers(1, 4), max_size=3))
    def delete_revisions(self, name: str, numbers: list[int]) -> None:
        self.both(lambda s: s.delete_revisions(name, numbers))

    @rule(name=names, number=st.integers(1, 6), state=st.sampled_from(ReplicaState), since=times)
    def save_replica(self, name: str, number: int, state: ReplicaState, since: float) -> None:
        value = replica(name, number, state=state, since=since)
        self.both(lambda s: s.save_replica(value))

    @rule(name=names, number=st.integers(1, 6))
    def delete_replica(self, name: str, number: int) -> None:
        self.both(lambda s: s.delete_replica(replica_id(name, number)))

    @rule(pairs=st.lists(st.tuples(names, names), max_size=4))
    def lease_edges(self, pairs: list[tuple[str, str]]) -> None:
        self.both(lambda s: s.lease_edges(pairs))

    @rule(key=names, value=st.text(max_size=5))
    def put(self, key: str, value: str) -> None:
        self.both(lambda s: s.put(key, value))

    @rule(at=times, subject=names | st.sampled_from(["a-r3", "b-r1"]) | texts, message=texts, data=data)
    def append(self, at: float, subject: str, message: str, data: dict[str, object]) -> None:
        self.both(lambda s: s.append(at, "Kind", subject, message, data))

    @rule(after=st.integers(-25, 60), limit=st.integers(-1, 25), subject=st.none() | names)
    def journal(self, after: int, limit: int, subject: str | None) -> None:
        self.both(lambda s: list(s.journal(after=after, limit=limit, subject=subject)))

    @rule()
    def reopen(self) -> None:
        self.disk.close()
        self.disk = SqliteStore(self.path, journal_kept=20)

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "disk"):
            return
        self.both(lambda s: s.load_desired())
        self.both(lambda s: list(s.load_replicas()))
        self.both(lambda s: s.next_numbers())
        self.both(lambda s: {name: list(known) for name, known in s.every_revision().items()})
        for name in ("a", "a-r1", "b", "cart-service"):
            self.both(lambda s, name=name: list(s.revisions(name)))  # type: ignore[misc]
            self.both(lambda s, name=name: s.get(name))  # type: ignore[misc]

    def teardown(self) -> None:
        if hasattr(self, "disk"):
            self.disk.close()
            self.folder.cleanup()


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
