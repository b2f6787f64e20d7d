"""`shoal db`: what it finds, what it refuses, and what it leaves when it fails."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from shoal.cli import dumps
from shoal.errors import EngineError, NotFoundError, ShoalError, UsageError
from shoal.model.resources import Keeping
from shoal.model.status import ExecContext


def found(url: str, **env: str) -> dumps.Found:
    context = ExecContext(env={"DATABASE_URL": url} | env, folder="/srv", hosts=None, nsswitch=None)
    return dumps.found_of("cart", context)


def sqlite(path: Path, *statements: str, table: str = "t") -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as made:
        for statement in (*statements, f"create table {table} (id)", f"insert into {table} values ('{path.name}')"):
            made.execute(statement)
    return path


def content(path: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("select id from t").fetchall()


def test_a_database_is_what_the_services_url_says() -> None:
    one = found("postgresql+asyncpg://me:p%40ss@[::1]:5433/shop?sslmode=require&pool=3", PGAPPNAME="cart", PGHOST="old")
    assert (one.keeping, one.variables) == (
        Keeping.POSTGRES,
        {
            "PGAPPNAME": "cart", "PGHOST": "::1", "PGPORT": "5433", "PGUSER": "me", "PGPASSWORD": "p@ss",
            "PGDATABASE": "shop", "PGSSLMODE": "require",
        },
    )  # fmt: skip
    assert found("sqlite:////data/a b.sqlite3").file == Path("/data/a b.sqlite3")
    assert found("sqlite+aiosqlite:///near.sqlite3").file == Path("/srv/near.sqlite3")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "cart has no database; give it one in the app file: database: postgres"),
        ("mysql://me:hidden@db/shop", "the DATABASE_URL of cart begins with mysql://"),
        ("postgresql://me:hidden@a:1,b:2/shop", "the DATABASE_URL of cart is no URL that Shoal can read"),
    ],
)
def test_a_service_without_a_database_that_can_be_dumped_is_told_so(url: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        found(url)
    assert str(caught.value).startswith(words) and "hidden" not in str(caught.value)


def test_what_is_no_dump_or_one_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.dump"
    file.write_text("create table t (id int);")
    with pytest.raises(UsageError, match=r"is no dump .*; SQL text goes in by: shoal db shell cart < "):
        dumps.check(found("postgresql://a@b/c"), file)
    sqlite(tmp_path / "b.dump")
    with pytest.raises(UsageError, match="is a dump of SQLite, and the database of cart is PostgreSQL"):
        dumps.check(found("postgresql://a@b/c"), tmp_path / "b.dump")
    with pytest.raises(UsageError, match="No such file"):
        dumps.check(found("postgresql://a@b/c"), tmp_path / "c.dump")


def test_a_dump_is_made_whole_or_leaves_what_was_there(tmp_path: Path) -> None:
    service, target = found(f"sqlite:///{tmp_path}/live.sqlite3"), tmp_path / "out" / "cart.dump"
    target.parent.mkdir()
    with pytest.raises(NotFoundError, match="has kept nothing yet"):
        dumps.dump(service, target)
    target.write_text("older")
    service.file.write_bytes(b"SQLite format 3\0" + b"x" * 9000)
    with pytest.raises(EngineError, match="the database of cart cannot be dumped"):
        dumps.dump(service, target)
    assert [(path.name, path.read_text()) for path in target.parent.iterdir()] == [("cart.dump", "older")]
    service.file.unlink()
    sqlite(service.file, "pragma journal_mode = wal")
    assert dumps.dump(service, target) == target.stat().st_size
    assert [path.name for path in target.parent.iterdir()] == ["cart.dump"]
    assert content(target) == [("live.sqlite3",)]
    for path, words in ((service.file, "is the database itself"), (Path("/dev/null"), "is no plain file")):
        with pytest.raises(UsageError, match=words):
            dumps.dump(service, path)
    with pytest.raises(EngineError, match="cannot be written: No such file"):
        dumps.dump(service, tmp_path / "no" / "cart.dump")


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("size", [4096, 1024])
def test_a_restore_replaces_all_that_is_there(tmp_path: Path, mode: str, size: int) -> None:
    service = found(f"sqlite:///{tmp_path}/data/live.sqlite3")
    dump = sqlite(tmp_path / "dump", "pragma page_size = 4096", f"pragma journal_mode = {mode}")
    dumps.restore(service, dump)  # into nothing
    assert content(service.file) == [("dump",)]
    service.file.unlink()
    sqlite(service.file, f"pragma page_size = {size}", "pragma journal_mode = wal", "create table more (id)")
    dumps.restore(service, dump)
    assert content(service.file) == [("dump",)]
    with closing(sqlite3.connect(service.file)) as database:
        assert database.execute("select name from sqlite_schema").fetchall() == [("t",)]
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == ["dump"]


def test_a_damaged_database_is_replaced_and_kept(tmp_path: Path) -> None:
    service = found(f"sqlite:///{tmp_path}/live.sqlite3")
    service.file.write_bytes(b"rubbish" * 900)
    Path(f"{service.file}-wal").write_bytes(b"of the old")
    dumps.restore(service, sqlite(tmp_path / "dump"))
    assert content(service.file) == [("dump",)]
    [kept] = (path for path in tmp_path.glob("*.damaged-*") if not path.name.endswith("-wal"))
    assert kept.read_bytes() == b"rubbish" * 900
    assert not Path(f"{service.file}-wal").exists()


def test_a_damaged_database_is_not_dumped(tmp_path: Path) -> None:
    service = found(f"sqlite:///{tmp_path}/live.sqlite3")
    rows = (f"insert into long values ('{'y' * 3000}')" for _ in range(20))
    sqlite(service.file, "create table long (text)", *rows)
    with service.file.open("r+b") as file:
        file.seek(20_000)
        file.write(b"\xff" * 9000)
    with pytest.raises(EngineError, match=r"the database of \w+ cannot be dumped: \*\*\* in database main"):
        dumps.dump(service, tmp_path / "dump")
    assert [path.name for path in tmp_path.iterdir()] == ["live.sqlite3"]


def test_the_wal_of_a_database_that_is_gone_is_not_taken_for_that_of_the_new_one(tmp_path: Path) -> None:
    service = found(f"sqlite:///{tmp_path}/live.sqlite3")
    Path(f"{service.file}-wal").write_bytes(b"of the old")
    dumps.restore(service, sqlite(tmp_path / "dump"))
    assert content(service.file) == [("dump",)]
    [kept] = tmp_path.glob("*.damaged-*-wal")
    assert kept.read_bytes() == b"of the old"


def test_a_database_that_is_held_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumps, "_BUSY_S_MAX", 0.1)
    service = found(f"sqlite:///{tmp_path}/live.sqlite3")
    sqlite(service.file)
    with closing(sqlite3.connect(service.file, isolation_level=None)) as holder:
        holder.execute("begin immediate")
        with pytest.raises(ShoalError, match=r"is as it was: .* end what uses it"):
            dumps.restore(service, sqlite(tmp_path / "dump"))
        holder.execute("rollback")
    assert content(service.file) == [("live.sqlite3",)]
