"""What a disk adds to the contract: schemas, damage, other processes, full and read-only disks."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.errors import StoreError
from shoal.model.app import App, Command, Service
from shoal.model.replica import Replica
from shoal.model.world import Desired, Revision, Target
from shoal.store import schema, sqlite
from shoal.store.sqlite import SqliteStore

CART = Service(name="cart", workload=Command(argv=("true",)), folder="/shop")
REVISION = Revision(service=CART, number=1, digest="d", created_at=1.0)
DESIRED = Desired(
    app=App(name="shop", services=(CART,)), generation=1, targets={"cart": Target(revision=REVISION, replicas=1)}
)
REPLICA = Replica(id="cart-r1", service="cart", number=1, revision=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


def sql(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """As someone with a sqlite3 shell."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        rows: list[tuple[object, ...]] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows
    finally:
        connection.close()


def fill(store: SqliteStore) -> None:
    store.save_desired(DESIRED)
    store.add_revision(REVISION)
    store.save_replica(REPLICA)
    store.append(1.0, "Deployed", "app", "deployed", {})


def test_all_of_it_is_there_after_closing_and_opening(path: Path) -> None:
    first = SqliteStore(path)
    fill(first)
    leased = first.lease_edges([("a", "b")])
    first.delete_replica("cart-r1")
    first.close()
    second = SqliteStore(path)
    assert second.load_desired() == DESIRED
    assert list(second.revisions("cart")) == [REVISION]
    assert second.next_numbers() == {"cart": 2}
    assert second.lease_edges([("a", "c"), ("a", "b")]) == leased | {("a", "c"): 3}
    assert second.append(2.0, "Kind", "app", "goes on", {}).sequence == 2
    second.close()


def test_only_the_owner_may_read_it(store: SqliteStore, path: Path) -> None:
    fill(store)
    for file in path.parent.iterdir():
        assert oct(file.stat().st_mode & 0o777) == "0o600", file


def test_a_folder_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot open .*/no/state.db: No such file or directory; check that its"):
        SqliteStore(tmp_path / "no" / "state.db")


# Schema


def test_a_new_file_has_the_newest_schema(store: SqliteStore, path: Path) -> None:
    assert sql(path, "PRAGMA user_version") == [(len(schema.STEPS),)]


def test_a_file_of_any_older_schema_is_brought_up_to_date_with_its_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = SqliteStore(path)
    fill(old)
    old.close()
    later = ("ALTER TABLE replicas ADD COLUMN note TEXT NOT NULL DEFAULT ''", "CREATE TABLE notes (x TEXT)")
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, later, ("CREATE TABLE more (y TEXT)",)))
    new = SqliteStore(path)
    assert list(new.load_replicas()) == [REPLICA]
    new.close()
    assert sql(path, "PRAGMA user_version") == [(len(schema.STEPS),)]
    assert sql(path, "SELECT count(*) FROM notes, more") == [(0,)]


def test_a_step_that_fails_leaves_the_schema_before_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteStore(path).close()
    steps = schema.STEPS
    monkeypatch.setattr(schema, "STEPS", (*steps, ("CREATE TABLE half (x TEXT)", "CREATE TABLE replicas (x TEXT)")))
    with pytest.raises(StoreError, match="table replicas already exists"):
        SqliteStore(path)
    assert sql(path, "PRAGMA user_version") == [(len(steps),)]
    assert sql(path, "SELECT count(*) FROM sqlite_master WHERE name = 'half'") == [(0,)]


def test_a_newer_schema_is_refused_and_nothing_is_changed(path: Path) -> None:
    store = SqliteStore(path)
    fill(store)
    store.close()
    sql(path, "PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="was written by a newer Shoal") as refused:
        SqliteStore(path)
    assert "run that newer version, or start over: shoal down, then move" in refused.value.way_out
    assert sql(path, "SELECT id FROM replicas") == [("cart-r1",)]


def test_a_foreign_database_is_refused(path: Path) -> None:
    sql(path, "CREATE TABLE users (name TEXT)")
    with pytest.raises(StoreError, match="is a database, and not one of Shoal's; move it away"):
        SqliteStore(path)


# Rows and files that cannot be read


def test_an_unreadable_replica_is_left_out_and_named(store: SqliteStore, path: Path) -> None:
    store.save_replica(REPLICA)
    store.save_replica(Replica(id="cart-r2", service="cart", number=2, revision=1))
    body = json.dumps({"id": "cart-r1", "service": "cart", "number": 1, "revision": 1, "state": "dreaming"})
    sql(path, f"UPDATE replicas SET body = '{body}' WHERE id = 'cart-r1'")
    for _ in range(3):
        assert [r.id for r in store.load_replicas()] == ["cart-r2"]
    assert len(store.problems) == 1
    assert "replica cart-r1 in state.db cannot be read and is left out: state: Input should be" in store.problems[0]


def test_rows_of_older_and_newer_versions_are_read(store: SqliteStore, path: Path) -> None:
    store.save_replica(REPLICA)
    body = json.dumps({"id": "cart-r1", "service": "cart", "number": 1, "revision": 1, "of_a_later_version": [1]})
    sql(path, f"UPDATE replicas SET body = '{body}' WHERE id = 'cart-r1'")
    assert list(store.load_replicas()) == [REPLICA]
    assert store.problems == []


@pytest.mark.parametrize("body", ["", "{", "null", "[]", "{}"])
def test_unreadable_revisions_and_entries_are_left_out_and_named(store: SqliteStore, path: Path, body: str) -> None:
    fill(store)
    store.append(2.0, "Kind", "app", "second", {})
    sql(path, f"UPDATE revisions SET body = '{body}'", "UPDATE journal SET data = '{' WHERE sequence = 1")
    assert list(store.revisions("cart")) == []
    assert [e.sequence for e in store.journal()] == [2]
    assert [problem.split(" in state.db")[0] for problem in store.problems] == [
        "revision 1 of service 'cart'",
        "journal entry 1",
    ]


def test_an_unreadable_desired_state_is_an_error_and_not_an_empty_app(store: SqliteStore, path: Path) -> None:
    fill(store)
    sql(path, 'UPDATE desired SET body = \'{"generation": "x"}\'')
    with pytest.raises(StoreError, match="was deployed cannot be read: app: Field required") as unreadable:
        store.load_desired()
    assert "move state.db away and deploy again" in unreadable.value.way_out
    store.save_desired(DESIRED)
    assert store.load_desired() == DESIRED


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_kept_and_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"state\.db is damaged .*; it was left as it is; restore a copy of it, or"):
        SqliteStore(path)
    assert path.read_bytes() == content


def test_damaged_pages_are_an_error_in_words(path: Path) -> None:
    store = SqliteStore(path)
    for number in range(500):
        store.append(1.0, "Kind", "app", "x" * 200, {"number": number})
    store.close()
    content = bytearray(path.read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"is damaged|cannot be read"):
        store = SqliteStore(path)
        try:
            store.append(1.0, "Kind", "app", "x", {})
            store.journal()
        finally:
            store.close()
    assert len(path.read_bytes()) == len(content)


# A disk that refuses


def test_a_full_disk_is_an_error_and_later_calls_work_again(store: SqliteStore) -> None:
    fill(store)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    sequence = store.journal()[-1].sequence
    with pytest.raises(StoreError, match=r"disk of .*state\.db is full; nothing was written; make room"):
        store.append(1.0, "Kind", "app", "x" * 100_000, {})
    assert store.load_desired() == DESIRED
    store._connection.execute("PRAGMA max_page_count = 1000000")
    assert store.append(1.0, "Kind", "app", "x" * 100_000, {}).sequence == sequence + 1


def test_a_read_only_disk_is_an_error_and_later_calls_work_again(store: SqliteStore) -> None:
    fill(store)
    store._connection.execute("PRAGMA query_only = on")
    for write in (lambda: fill(store), lambda: store.put("a", "b"), lambda: store.lease_edges([("a", "b")])):
        with pytest.raises(StoreError, match=r"state\.db cannot be written"):
            write()
    assert store.load_desired() == DESIRED
    store._connection.execute("PRAGMA query_only = off")
    store.put("a", "b")
    assert store.lease_edges([("a", "b")]) == {("a", "b"): 2}


def test_another_process_that_holds_it_locked_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.0)
    store = SqliteStore(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"another process holds .*state\.db locked"):
        store.put("a", "b")
    assert store.get("a") is None
    other.execute("ROLLBACK")
    other.close()
    store.put("a", "b")
    assert store.get("a") == "b"
    store.close()


def test_using_a_closed_store_is_an_error(path: Path) -> None:
    store = SqliteStore(path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.get("a")


def test_text_that_is_no_unicode_is_refused_and_named(store: SqliteStore) -> None:
    bad = Replica(id="cart-r1", service="cart", number=1, revision=1, progress="caf\udce9")
    with pytest.raises(StoreError, match="replica cart-r1 holds text that is not valid Unicode"):
        store.save_replica(bad)
    assert store.next_numbers() == {}


# The journal's bound on the disk


def test_the_journal_on_the_disk_is_trimmed_in_batches(path: Path) -> None:
    store = SqliteStore(path, journal_kept=100)
    most = 0
    for number in range(1, 351):
        store.append(1.0, "Kind", "app", "x", {})
        if number % 7 == 0:
            most = max(most, sql(path, "SELECT count(*) FROM journal")[0][0])  # type: ignore[call-overload]
    store.close()
    assert 100 <= most <= 110


# What a power cut may take back


def test_what_people_asked_for_and_given_numbers_are_flushed_and_the_rest_is_not(store: SqliteStore) -> None:
    def flushed() -> bool:
        full = 2
        return bool(store._connection.execute("PRAGMA synchronous").fetchone()[0] == full)

    store.save_desired(DESIRED)
    assert flushed()
    store.append(1.0, "Kind", "app", "x", {})
    assert not flushed()
    store.add_revision(REVISION)
    assert flushed()
    store.delete_replica("cart-r1")
    assert not flushed()
    store.save_replica(REPLICA)
    assert flushed(), "its number is new"
    store.save_replica(REPLICA)
    assert not flushed()
    store.lease_edges([("a", "b")])
    assert flushed()
    store.append(1.0, "Kind", "app", "x", {})
    store.put("network", "77")
    assert flushed()
