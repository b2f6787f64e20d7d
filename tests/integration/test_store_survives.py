"""The store on real disks: killed in the midst of writing, full, read-only."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shoal.model.app import App, Command, Service
from shoal.model.replica import Replica, replica_id
from shoal.model.world import Desired, Revision, Target
from shoal.store.sqlite import SqliteStore

pytestmark = pytest.mark.integration

ROUNDS = 20
SERVICES = [f"service-{number}" for number in range(20)]


def wanted(generation: int) -> Desired:
    def revision(name: str) -> Revision:
        service = Service(name=name, workload=Command(argv=("true", str(generation))), folder="/shop")
        return Revision(service=service, number=generation, digest=str(generation), created_at=1.0)

    targets = {name: Target(revision=revision(name), replicas=1, generation=generation) for name in SERVICES}
    app = App(name="shop", services=tuple(target.service for target in targets.values()))
    return Desired(app=app, generation=generation, targets=targets)


def write_for_ever(path: Path) -> None:
    """What the child does: each turn writes all kinds of rows, in a fixed order, and says that it is done."""
    store = SqliteStore(path)
    known = store.load_desired()
    turn = known.generation if known else 0
    while True:
        turn += 1
        desired = wanted(turn)
        store.add_revision(desired.targets[SERVICES[0]].revision)
        store.save_desired(desired)
        store.lease_edges([(f"caller-{turn}", "callee"), (f"caller-{turn}", "*")])
        store.save_replica(Replica(id=replica_id("service-0", turn), service="service-0", number=turn, revision=turn))
        store.append(1.0, "Turn", "service-0", str(turn), {"turn": turn})
        for replica in store.load_replicas():
            if replica.number < turn:
                store.delete_replica(replica.id)
        print(turn, flush=True)


def check(path: Path, said: int) -> None:
    """Nothing that the child said was done is missing, and no transaction is there by half."""
    store = SqliteStore(path)
    try:
        desired = store.load_desired()
        assert desired is not None
        assert desired == wanted(desired.generation)
        assert desired.generation in (said, said + 1)
        revisions = [revision.number for revision in store.revisions("service-0")]
        assert revisions == list(range(1, revisions[-1] + 1))
        assert revisions[-1] in (desired.generation, desired.generation + 1)
        newest = store.next_numbers()["service-0"] - 1
        assert newest in (said, desired.generation)
        assert newest in [replica.number for replica in store.load_replicas()]
        last = store.journal(after=-1)[0]
        assert (last.message, last.data) in [(str(turn), {"turn": turn}) for turn in (said, newest)]
        leased = store._connection.execute("SELECT caller, callee, number FROM edges ORDER BY number").fetchall()
        assert [number for _, _, number in leased] == list(range(2, len(leased) + 2))
        pairs = [(caller, callee) for caller, callee, _ in leased]
        assert [callee for _, callee in pairs] == ["callee", "*"] * (len(pairs) // 2)
        assert (f"caller-{said}", "*") in pairs
        assert store.problems == []
        checked = store._connection.execute("PRAGMA integrity_check").fetchall()
        assert checked == [("ok",)]
    finally:
        store.close()


def test_a_writer_killed_at_any_moment_leaves_whole_transactions(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    chance = random.Random(7)
    for _ in range(ROUNDS):
        child = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import *; write_for_ever(Path({str(path)!r}))"],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdout is not None
        with child.stdout:
            said = [child.stdout.readline() for _ in range(chance.randrange(1, 6))]
            time.sleep(chance.uniform(0, 0.004))
            os.kill(child.pid, signal.SIGKILL)
            child.wait(10)
            said += child.stdout.readlines()
        check(path, int(said[-1]))


def on_a_disk_of_its_own(folder: Path) -> None:
    """What runs inside of the namespace that `folder` is a small disk of."""
    store = SqliteStore(folder / "state.db")
    store.put("before", "yes")
    ballast = folder / "ballast"
    ballast.write_bytes(b"x" * 200_000)
    failed = ""
    for number in range(10_000):
        try:
            store.append(1.0, "Kind", "app", "x" * 1000, {"number": number})
        except Exception as error:
            failed = str(error)
            break
    assert "is full; nothing was written; make room" in failed, failed
    last = store.journal(after=-1)[0].sequence
    assert store.get("before") == "yes"
    ballast.unlink()
    assert store.append(1.0, "Kind", "app", "again", {}).sequence == last + 1
    store.put("after", "yes")

    # The disk is full from the first byte: not even the file can be made.
    with pytest.raises(OSError, match="No space left"), ballast.open("wb", buffering=0) as more:
        while True:
            more.write(b"x" * 4096)
    try:
        SqliteStore(folder / "other.db").close()
        raise AssertionError("there is room")
    except Exception as error:
        assert "disk" in str(error) and "full" in str(error), error
    ballast.unlink()
    store.close()
    (folder / "other.db").unlink(missing_ok=True)

    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        SqliteStore(folder / "state.db").close()
        raise AssertionError("the disk can be written")
    except Exception as error:
        assert "read-only" in str(error).lower(), error
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    store = SqliteStore(folder / "state.db")
    assert (store.get("after"), store.problems) == ("yes", [])
    store.close()
    print("all of it")


def test_a_full_and_a_read_only_disk_are_said_in_words_and_got_over(tmp_path: Path) -> None:
    inside = f"from {__name__} import *; on_a_disk_of_its_own(Path({str(tmp_path)!r}))"
    script = 'mount -t tmpfs -o size=600k tmpfs "$1" && exec "$2" -c "$3"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, inside]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
    except FileNotFoundError:
        pytest.skip("no unshare on this machine")
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespaces here: {done.stderr.strip()}")
    assert done.stdout == "all of it\n", done.stderr
