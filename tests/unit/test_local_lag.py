"""What the brokers and the databases say of lag, read: the parts that need no server."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from shoal.engines.local.ports import PortLeases
from shoal.engines.local.resources.kept import Resources
from shoal.engines.local.resources.lag import LocalLagReader, inboxes
from shoal.model.lag import InboxLag, Lag, OutboxLag
from shoal.model.resources import Database, Keeping, Kind, Resource, Use
from shoal.paths import StateFolder
from shoal.testing import apps


def consumer(name: str, pending: int, unacknowledged: int = 0) -> dict[str, object]:
    return {"name": name, "num_pending": pending, "num_ack_pending": unacknowledged, "num_redelivered": 0}


def stream(name: str, *consumers: dict[str, object]) -> dict[str, object]:
    return {"name": name, "consumer_detail": list(consumers)}


@pytest.mark.parametrize(
    ("streams", "expected"),
    [
        ([], []),
        ([{"name": "SHOAL_EVENTS"}], []),
        ([stream("ORDERS", consumer("somebody", 7))], []),
        ([stream("SHOAL_EVENTS", consumer("cart", 11, 1))], [("cart", 12, 0)]),
        (
            [stream("SHOAL_EVENTS", consumer("b", 0), consumer("a", 1)), stream("SHOAL_DEAD", consumer("a", 2, 1))],
            [("a", 1, 3), ("b", 0, 0)],
        ),
    ],
)
def test_what_nats_says_of_its_consumers(streams: list[object], expected: list[tuple[str, int, int]]) -> None:
    said = json.dumps({"account_details": [{"name": "$G", "stream_detail": streams}]}).encode()
    assert inboxes(said) == [InboxLag(consumer=name, behind=n, dead_letters=dead) for name, n, dead in expected]


def test_a_nats_without_jetstream_has_no_inboxes() -> None:
    assert inboxes(b'{"disabled": true}') == []


@pytest.mark.parametrize(
    "said", [b"", b"[]", b"\xff", b'{"account_details": 1}', b'{"account_details": [{"stream_detail": [{}]}]}']
)
def test_what_is_not_understood_is_said_to_be(said: bytes) -> None:
    with pytest.raises(ValueError, match="not understood"):
        inboxes(said)


class Box:
    """A state folder, and an app whose service `notes` keeps its data in SQLite."""

    def __init__(self, folder: Path) -> None:
        self.state = StateFolder(folder)
        self.resources = Resources(self.state, PortLeases("test"))
        self.file = self.resources.sqlite_file("notes")
        self.file.parent.mkdir(parents=True)
        self.app = apps.app(apps.service("notes", database=Database(keeping=Keeping.SQLITE, owner="notes")))

    def read(self) -> Lag:
        reader = LocalLagReader(self.resources, lambda app, service: {}, now=lambda: 1000.0)
        return asyncio.run(reader.read(self.app))


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def outbox(file: Path, *written_at: float, mode: str = "wal") -> None:
    with closing(sqlite3.connect(file)) as opened:
        opened.execute(f"PRAGMA journal_mode={mode}")
        opened.execute("CREATE TABLE shoal_outbox (id INTEGER PRIMARY KEY, created_at REAL)")
        opened.executemany("INSERT INTO shoal_outbox (created_at) VALUES (?)", [(at,) for at in written_at])
        opened.commit()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_an_outbox_in_sqlite_is_counted_and_its_oldest_row_looked_at(box: Box, mode: str) -> None:
    outbox(box.file, 990.0, 995.0, mode=mode)
    assert box.read() == Lag(outboxes={"notes": OutboxLag(pending=2, oldest_s=10.0)})


def test_an_empty_outbox_is_known_to_be_empty(box: Box) -> None:
    outbox(box.file)
    assert box.read() == Lag(outboxes={"notes": OutboxLag(pending=0, oldest_s=0.0)})


def test_a_service_that_writes_meanwhile_is_not_waited_for(box: Box) -> None:
    outbox(box.file, 990.0)
    with closing(sqlite3.connect(box.file)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM shoal_outbox")
        assert box.read().outboxes["notes"].pending == 1


def test_a_database_without_an_outbox_and_none_at_all_say_nothing(box: Box) -> None:
    assert box.read() == Lag()
    with closing(sqlite3.connect(box.file)) as opened:
        opened.execute("CREATE TABLE notes (id INTEGER)")
    assert box.read() == Lag()
    assert sorted(path.name for path in box.file.parent.iterdir()) == [box.file.name]


def test_what_is_no_database_is_unknown(box: Box) -> None:
    box.file.write_bytes(b"x" * 5000)
    assert box.read() == Lag(silent_databases={"notes": "file is not a database"})


def test_what_was_never_started_is_not_asked_and_not_made(box: Box) -> None:
    postgres = Database(keeping=Keeping.POSTGRES, owner="cart", use=Use(name="postgres", kind=Kind.POSTGRES))
    box.app = apps.app(
        apps.service("cart", database=postgres),
        apps.service("postgres", port=5432, workload=Resource(kind=Kind.POSTGRES)),
        apps.service("nats", port=4222, workload=Resource(kind=Kind.NATS)),
    )
    assert box.read() == Lag()
    assert not (box.state.root / "resources").exists()


def test_only_the_owner_of_a_database_is_asked(box: Box) -> None:
    outbox(box.file, 990.0)
    seen = Database(keeping=Keeping.SQLITE, owner="notes")
    box.app = apps.app(*box.app.services, apps.service("report", port=None, database=seen))
    assert set(box.read().outboxes) == {"notes"}


def test_a_broker_that_does_not_listen_is_unknown(box: Box) -> None:
    folder = box.state.root / "resources" / "nats"
    folder.mkdir(parents=True)
    (folder / "monitoring").write_text("1")  # nobody can listen there but root, and nobody does
    box.app = apps.app(apps.service("nats", port=4222, workload=Resource(kind=Kind.NATS)))
    assert box.read() == Lag(silent_brokers={"nats": "does not listen"})
