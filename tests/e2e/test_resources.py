"""Databases and brokers of an app: the real PostgreSQL and nats-server, by the rules that services may rely on."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shoal.engines.local.resources import programs
from tests.support.plane import Plane, plane
from tests.support.user import NOBODY, UnavailableError, nobody

pytestmark = pytest.mark.integration

SLEEPER = "import time\ntime.sleep(10000)\n"
APP = f"""
app: data
services:
  cart-service: {{command: ["{sys.executable}", sleeper.py], database: postgres, uses: [nats, redis]}}
  product-service: {{command: ["{sys.executable}", sleeper.py], database: postgres}}
  notes: {{command: ["{sys.executable}", sleeper.py], database: sqlite}}
jobs:
  report:
    command: 'echo "at $PGHOST:$PGPORT/$PGDATABASE, nats on $NATS_PORT"'
    database: {{of: cart-service}}
    uses: [nats]
"""


class Data:
    """An app with resources, up, and psql as one of its services sees it."""

    def __init__(self, shoal: Plane) -> None:
        self.shoal = shoal

    def variables(self, service: str) -> dict[str, str]:
        pid = next(pid for name, pid in self.shoal.pids().items() if name.startswith(f"{service}-r"))
        found = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return dict(entry.decode().split("=", 1) for entry in found if b"=" in entry)

    def psql(self, statement: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in variables.items() if key.startswith("PG")}
        line = [str(programs.postgres_folder() / "psql"), "-X", "-w", "-At", "-c", statement]
        return subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=30)

    def passwords(self) -> list[str]:
        return [path.read_text() for path in (self.shoal.root / "resources").glob("*/*password")]


@pytest.fixture(scope="module", params=["root", "nobody"])
def data(request: pytest.FixtureRequest) -> Iterator[Data]:
    with tempfile.TemporaryDirectory(prefix="shoal-test-", dir="/tmp") as name:
        folder = Path(name)
        files = {"shoal.yaml": APP, "sleeper.py": SLEEPER}
        if request.param == "root":
            if os.geteuid() != 0:
                pytest.skip("only root can become another user")
            with plane(folder / "app", files=files) as shoal:
                yield up(shoal)
            return
        try:
            somebody = nobody(folder)
        except UnavailableError as error:
            pytest.skip(str(error))
        files["shoal.yaml"] = APP.replace(sys.executable, somebody.python[-1])
        command = [*somebody.python, "-m", "shoal"]
        environment = somebody.environment
        with plane(folder / "app", files=files, command=command, environment=environment, owner=NOBODY) as shoal:
            yield up(shoal)


def up(shoal: Plane) -> Data:
    parents = [*shoal.folder.parents, Path("/var/lib"), Path("/var")]
    modes = {path: (path.stat().st_mode, path.stat().st_uid) for path in parents}
    shoal.up()
    assert {path: (path.stat().st_mode, path.stat().st_uid) for path in parents} == modes
    return Data(shoal)


def test_a_role_may_enter_its_own_database_alone(data: Data) -> None:
    cart = data.variables("cart-service")
    assert data.psql("create table if not exists items (id int)", **cart).returncode == 0
    refused = data.psql("select 1", **cart | {"PGDATABASE": "product-service"})
    assert 'permission denied for database "product-service"' in refused.stderr
    assert "permission denied" in data.psql("select 1", **cart | {"PGDATABASE": "postgres"}).stderr


def test_nobody_enters_without_a_password(data: Data) -> None:
    cart = data.variables("cart-service")
    for user in ("postgres", "cart-service"):
        refused = data.psql(
            "select 1", PGHOST=cart["PGHOST"], PGPORT=cart["PGPORT"], PGUSER=user, PGDATABASE="postgres"
        )
        assert "no password supplied" in refused.stderr
    wrong = data.psql("select 1", **cart | {"PGUSER": "postgres", "PGDATABASE": "postgres"})
    assert "password authentication failed" in wrong.stderr


def test_a_job_sees_the_database_of_the_service_it_names(data: Data) -> None:
    said = data.shoal.shoal("run", "report").stdout + data.shoal.log_text("report", "report-r1")
    cart = data.variables("cart-service")
    assert f"at 127.0.0.1:{cart['PGPORT']}/cart-service, nats on {cart['NATS_PORT']}" in said


def test_a_killed_postgres_comes_back_with_its_data_and_so_it_does_after_down(data: Data) -> None:
    cart = data.variables("cart-service")
    assert data.psql("create table kept (id int); insert into kept values (7)", **cart).returncode == 0
    seen = data.shoal.status()["sequence"]
    os.kill(data.shoal.pids()["postgres-r1"], signal.SIGKILL)
    data.shoal.wait_for_event("ReplicaReady", "postgres-r1", after=seen)
    assert data.psql("select id from kept", **cart).stdout == "7\n"
    data.shoal.down()
    data.shoal.up()
    assert data.variables("cart-service")["PGPASSWORD"] == cart["PGPASSWORD"]
    assert data.psql("select id from kept", **data.variables("cart-service")).stdout == "7\n"


def redis(data: Data, *words: str) -> str:
    """What Redis answers; it wants the password first."""
    url = urlsplit(data.variables("cart-service")["REDIS_URL"])
    with socket.create_connection((url.hostname, url.port), timeout=10) as connection, connection.makefile() as lines:
        for command in (("AUTH", url.password or ""), words):
            sent = f"*{len(command)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in command)
            connection.sendall(sent.encode())
            answer = lines.readline().strip()
            answer = lines.readline().strip() if answer.startswith("$") else answer
    return answer


def test_redis_keeps_what_it_has_confirmed_when_it_is_killed(data: Data) -> None:
    assert redis(data, "SET", "kept", "7") == "+OK"
    url = urlsplit(data.variables("cart-service")["REDIS_URL"])
    with socket.create_connection((url.hostname, url.port), timeout=10) as stranger, stranger.makefile() as lines:
        stranger.sendall(b"GET kept\r\n")
        assert "NOAUTH" in lines.readline()
    seen = data.shoal.status()["sequence"]
    [name] = [name for name in data.shoal.pids() if name.startswith("redis-r")]
    os.kill(data.shoal.pids()[name], signal.SIGKILL)
    data.shoal.wait_for_event("ReplicaReady", name, after=seen)
    assert redis(data, "GET", "kept") == "7"


def test_a_password_is_in_no_record_and_on_no_command_line(data: Data) -> None:
    passwords = data.passwords()
    assert len(passwords) >= 4
    told = [data.shoal.shoal(*words).stdout for words in (["status", "--json"], ["events", "--json", "--after", "0"])]
    told += [data.shoal.shoal("explain", name, "--json").stdout for name in ("cart-service", "postgres", "nats")]
    told += [path.read_bytes().decode("latin-1") for path in data.shoal.root.glob("state.db*")]
    told += [path.read_text() for path in (data.shoal.root / "logs" / "postgres").glob("*")]
    for pid in data.shoal.pids().values():
        told.append(Path(f"/proc/{pid}/cmdline").read_text())
    assert not [password for password in passwords if any(password in text for text in told)]


def test_an_outbox_that_is_full_shows_in_status_in_explain_and_as_a_metric(data: Data) -> None:
    cart = data.variables("cart-service")
    table = "create table shoal_outbox (id int primary key, created_at double precision)"
    row = "insert into shoal_outbox values (1, extract(epoch from now()) - 7300)"
    assert data.psql(f"{table}; {row}", **cart).returncode == 0
    status = data.shoal.wait_for_status(
        lambda status: [one["name"] for one in status["services"] if one["outbox"]] == ["cart-service"], "its outbox"
    )
    assert not [one["lag_unknown"] for one in status["services"] if one["lag_unknown"]]
    assert status["socket"] == str(data.shoal.run / "api.sock")
    words = "1 event not yet published, the oldest 2h old"
    assert f"\ncart-service: {words}\n" in data.shoal.shoal("status").stdout
    assert f"\nEvents out: {words}\n" in data.shoal.shoal("explain", "cart-service").stdout
    metrics = data.shoal.read("/metrics").splitlines()
    assert 'shoal_outbox_pending{service="cart-service"} 1' in metrics
    assert 'shoal_replicas_ready{service="nats"} 1' in metrics
    assert data.psql("drop table shoal_outbox", **cart).returncode == 0


def scaled(data: Data, service: str, replicas: int) -> None:
    data.shoal.shoal("scale", service, str(replicas), check=False)
    data.shoal.wait_for_status(
        lambda status: [len(one["replicas"]) for one in status["services"] if one["name"] == service] == [replicas],
        f"{replicas} replicas of {service}",
    )


def test_a_dump_of_postgres_brings_the_old_data_back(data: Data) -> None:
    cart, file = data.variables("cart-service"), data.shoal.folder / "cart.dump"
    assert data.psql("create table t (id int primary key); insert into t values (1)", **cart).returncode == 0
    told = json.loads(data.shoal.shoal("db", "dump", "cart-service", "-o", "cart.dump", "--json").stdout)
    assert told == {"service": "cart-service", "kind": "postgres", "file": str(file), "bytes": file.stat().st_size}
    assert file.read_bytes().startswith(b"PGDMP") and file.stat().st_mode & 0o777 == 0o600
    assert data.psql("update t set id = 2; alter table t add more text", **cart).returncode == 0

    refused = data.shoal.shoal("db", "restore", "cart-service", "cart.dump", check=False)
    assert refused.returncode == 3 and "1 replica of cart-service would see" in refused.stderr
    assert "shoal scale cart-service 0" in refused.stderr
    for damaged in (file.read_bytes()[:-1], file.read_bytes()[:200]):
        data.shoal.folder.joinpath("damaged").write_bytes(damaged)
        failed = data.shoal.shoal("db", "restore", "cart-service", "damaged", "--yes", check=False)
        assert failed.returncode == 1 and "is as it was" in failed.stderr
        assert data.psql("select * from t", **cart).stdout == "2|\n"
    other = data.shoal.shoal("db", "restore", "notes", "cart.dump", check=False)
    assert other.returncode == 2 and "is a dump of PostgreSQL, and the database of notes is SQLite" in other.stderr

    scaled(data, "cart-service", 0)
    data.shoal.shoal("db", "restore", "cart-service", "cart.dump")
    scaled(data, "cart-service", 1)
    assert data.psql("select * from t", **cart).stdout == "1\n"
    data.shoal.shoal("db", "restore", "product-service", "cart.dump", "--yes")  # another's: its role becomes the owner
    assert data.psql("select * from t", **data.variables("product-service")).stdout == "1\n"


def test_a_dump_that_fails_leaves_nothing_and_the_older_one(data: Data) -> None:
    data.shoal.folder.joinpath("old.dump").write_text("old")
    before = set(data.shoal.folder.iterdir())
    line = ["env", "SHOAL_POSTGRES=/nowhere", *data.shoal.command, "db", "dump", "cart-service", "-o", "old.dump"]
    done = subprocess.run(
        line, cwd=data.shoal.folder, env=data.shoal.env(), capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1 and "/nowhere" in done.stderr
    assert set(data.shoal.folder.iterdir()) == before
    assert data.shoal.folder.joinpath("old.dump").read_text() == "old"


def test_a_dump_of_sqlite_brings_the_old_data_back_to_those_that_have_it_open(data: Data) -> None:
    path = data.shoal.root / "data" / "notes" / "notes.sqlite3"
    assert "has kept nothing yet" in data.shoal.shoal("db", "dump", "notes", check=False).stderr
    with closing(sqlite3.connect(path, isolation_level=None)) as notes:
        os.chown(path, path.parent.stat().st_uid, path.parent.stat().st_gid)
        notes.execute("pragma journal_mode = wal")
        notes.execute("create table t (text)")
        for beside in path.parent.glob("*.sqlite3-*"):
            os.chown(beside, path.parent.stat().st_uid, path.parent.stat().st_gid)
        notes.execute("insert into t values ('old')")
        data.shoal.shoal("db", "dump", "notes", "-o", "notes.dump")
        assert not list(data.shoal.folder.glob("*notes.dump?*"))
        notes.execute("update t set text = 'new'")
        dump = data.shoal.folder.joinpath("notes.dump").read_bytes()
        data.shoal.folder.joinpath("damaged").write_bytes(dump[:5000] + b"x" * (len(dump) - 5000))
        failed = data.shoal.shoal("db", "restore", "notes", "damaged", "--yes", check=False)
        assert failed.returncode == 1 and "the database of notes is as it was" in failed.stderr
        assert notes.execute("select text from t").fetchall() == [("new",)]
        assert data.shoal.shoal("db", "restore", "notes", "notes.dump", check=False).returncode == 3
        data.shoal.shoal("db", "restore", "notes", "notes.dump", "--yes")
        assert notes.execute("select text from t").fetchall() == [("old",)]
        assert notes.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_a_shell_is_psql_as_the_service_with_no_password_on_its_command_line(data: Data) -> None:
    line = [*data.shoal.command, "db", "shell", "cart-service"]
    script = "select current_user;\n\\! tr '\\\\0' ' ' < /proc/$PPID/cmdline\n"
    done = subprocess.run(
        line, cwd=data.shoal.folder, env=data.shoal.env(), input=script, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert "cart-service" in done.stdout and "psql" in done.stdout
    assert not [password for password in data.passwords() if password in done.stdout]
