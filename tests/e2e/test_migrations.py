"""Migrations with a real alembic: once, before traffic, and when they fail nothing changes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.plane import Plane, plane
from tests.support.port import free_port
from tests.support.prober import Kind, prober

pytestmark = pytest.mark.integration

# The one column of a table, by the name that the revision's code knows: a new connection for each request.
WEB = """
import os, sqlite3

READ, WRITE = "{read}", "{write}"
PATH = os.environ["DATABASE_URL"].removeprefix("sqlite:///")

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    database = sqlite3.connect(PATH, timeout=20)
    try:
        if scope["method"] == "POST":
            database.execute(WRITE, ("x",))
            database.commit()
        body = str(database.execute(READ).fetchone()).encode()
    finally:
        database.close()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
"""
ENV = """
from alembic import context
from sqlalchemy import create_engine
import os
with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
STEP = """
from alembic import op
revision, down_revision = "{number}", {before}
def upgrade():
    print("step {number} runs", flush=True)
    for statement in {statements}:
        op.execute(statement)
def downgrade():
    pass
"""
STEPS = [
    ["create table users (id integer primary key, name text)", "insert into users (name) values ('ada')"],
    # Expand: the new name beside the old one, and both kept the same.
    [
        "alter table users add column full_name text",
        "update users set full_name = name",
        "create trigger into_new after insert on users when new.full_name is null begin "
        "update users set full_name = new.name where id = new.id; end",
        "create trigger into_old after insert on users when new.name is null begin "
        "update users set name = new.full_name where id = new.id; end",
    ],
    # Contract: nobody knows the old name any more.
    ["drop trigger into_new", "drop trigger into_old", "alter table users drop column name"],
]
OLD = WEB.format(read="select count(name) from users", write="insert into users (name) values (?)")
NEW = WEB.format(read="select count(full_name) from users", write="insert into users (full_name) values (?)")


def write_steps(folder: Path, count: int) -> None:
    versions = folder / "alembic" / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    (folder / "alembic" / "env.py").write_text(ENV)
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = alembic\n")
    for number, statements in enumerate(STEPS[:count], 1):
        before = repr(str(number - 1)) if number > 1 else None
        step = STEP.format(number=number, before=before, statements=statements)
        (versions / f"{number}.py").write_text(step)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Plane, str]]:
    port = free_port()
    alembic = f"{sys.executable} -m alembic upgrade head"
    app = f"""
services:
  web:
    run: echo:app
    port: {port}
    replicas: 3
    database: sqlite
    migrate: {{command: "{alembic}", reversible: "{sys.executable} -m alembic downgrade -1"}}
"""
    with plane(tmp_path / "app", files={"shoal.yaml": app, "echo.py": OLD}) as shoal:
        write_steps(shoal.folder, 1)
        shoal.up()
        yield shoal, f"http://127.0.0.1:{port}"


def test_a_column_is_renamed_in_two_releases_and_nothing_is_lost(web: tuple[Plane, str]) -> None:
    shoal, url = web
    assert shoal.log_text("web", "migrate-1").count("step 1 runs") == 1  # with three replicas
    with prober(url, rate=60.0) as probe:
        write_steps(shoal.folder, 2)
        (shoal.folder / "echo.py").write_text(NEW)
        shoal.shoal("deploy")
        write_steps(shoal.folder, 3)
        shoal.shoal("deploy")
    probe.assert_nothing_lost()
    assert shoal.log_text("web", "migrate-2").count("step 2 runs") == 1
    told = shoal.shoal("migrate", "status").stdout
    assert told.count("succeeded") == 3
    shoal.shoal("restart", "web")
    assert shoal.shoal("migrate", "status").stdout.count("succeeded") == 3  # a restart migrates nothing
    assert "cannot be written" not in shoal.shoal("logs", "web", "--migrate").stdout

    refused = shoal.shoal("rollback", "web", "--to", "1", check=False)
    assert refused.returncode == 3
    assert "has run since revision 1" in refused.stderr
    assert f"shoal exec web -- {sys.executable} -m alembic downgrade -1" in refused.stderr


def test_a_migration_that_fails_leaves_the_old_revision_serving(web: tuple[Plane, str]) -> None:
    shoal, url = web
    with prober(url, rate=60.0, kinds=[Kind.GET]) as probe:
        write_steps(shoal.folder, 2)
        bad = STEP.format(number=3, before="'2'", statements=["insert into nowhere values (1)"])
        (shoal.folder / "alembic" / "versions" / "3.py").write_text(bad)
        (shoal.folder / "echo.py").write_text(OLD.replace("count(name)", "'new'"))
        failed = shoal.shoal("deploy", check=False)
    probe.assert_nothing_lost()
    assert failed.returncode == 5
    assert "no such table: nowhere" in failed.stderr
    assert "revision 1 serves, as before" in failed.stderr
    assert "shoal logs web --migrate" in failed.stderr
    with urlopen(url, timeout=10) as answer:
        assert answer.read() == b"(1,)"  # the one row, counted by the old code
    assert "no such table" in shoal.shoal("logs", "web", "--migrate").stdout


def test_a_daemon_killed_in_the_midst_of_a_migration_runs_it_once(web: tuple[Plane, str]) -> None:
    shoal, _ = web
    write_steps(shoal.folder, 2)
    slow = shoal.folder / "alembic" / "versions" / "2.py"
    go = shoal.folder / "go"
    wait = f"    import os, time\n    while not os.path.exists({str(go)!r}):\n        time.sleep(0.05)\n"
    slow.write_text(slow.read_text().replace("    for statement", wait + "    for statement"))
    shoal.shoal("deploy", "--detach")
    shoal.eventually(lambda: "step 2 runs" in shoal.log_text("web", "migrate-2"), "the migration")
    daemon = shoal.status()["daemon_pid"]
    os.kill(daemon, signal.SIGKILL)
    shoal.wait_for_status(lambda status: status["daemon_pid"] != daemon, "a new daemon")
    go.touch()
    shoal.wait_for_event("RolloutCompleted", "web", after=shoal.events()[-1]["sequence"] - 20)
    shoal.eventually(lambda: shoal.shoal("migrate", "status").stdout.count("succeeded") == 2, "the second migration")
    assert shoal.log_text("web", "migrate-2").count("step 2 runs") == 1
