"""A service's database, and its dumps: made whole or not at all, brought back whole or not at all.

PostgreSQL's are in its custom format, SQLite's are databases. Passwords go to the programs as variables.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

from shoal.errors import EngineError, NotFoundError, UsageError
from shoal.model.resources import Keeping
from shoal.model.status import ExecContext

_BUSY_S_MAX = 30.0
"""How long it waits for those that hold the database at the moment."""
_MAGIC = {Keeping.POSTGRES: b"PGDMP", Keeping.SQLITE: b"SQLite format 3\0"}
_NAMES = {Keeping.POSTGRES: "PostgreSQL", Keeping.SQLITE: "SQLite"}
_BESIDE = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A service's database, as the service itself finds it."""

    service: str
    keeping: Keeping
    variables: dict[str, str]
    """libpq's. Empty for SQLite."""
    file: Path
    """SQLite's; it may not be there yet."""
    context: ExecContext
    """Its secrets are in `env`."""


def found_of(service: str, context: ExecContext) -> Found:
    """What the service's `DATABASE_URL` says. `context`: with nothing kept back. UsageError: it has none, or one of
    another kind."""
    from shoal.engines.local.resources.kept import of_url

    url = context.env.get("DATABASE_URL", "")
    if not url:
        raise UsageError(f"{service} has no database", way_out="give it one in the app file: database: postgres")
    try:
        parts = urlsplit(url)
        scheme = parts.scheme.partition("+")[0]
        if scheme == "sqlite":
            file = url.partition("://")[2].partition("?")[0].removeprefix("/")
            return Found(
                service=service, keeping=Keeping.SQLITE, variables={}, file=Path(context.folder, file), context=context
            )
        if scheme not in ("postgres", "postgresql"):
            words = f"the DATABASE_URL of {service} begins with {scheme or 'no scheme'}://"
            raise UsageError(
                words, way_out="of PostgreSQL and of SQLite, Shoal makes dumps; use that server's own tools"
            )
        own = {key: value for key, value in context.env.items() if key.startswith("PG")}
        said = {key: value for key, value in of_url(url).items() if value}
    except ValueError as error:  # its text is not told: a password may be in it
        raise UsageError(f"the DATABASE_URL of {service} is no URL that Shoal can read") from error
    return Found(service=service, keeping=Keeping.POSTGRES, variables=own | said, file=Path(), context=context)


def dump(found: Found, target: Path) -> int:
    """Its size in bytes. What was at `target` is replaced once the dump is whole. EngineError, UsageError."""
    target = Path(os.path.realpath(target))
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is no plain file", way_out="name a file: -o FILE")
    if found.keeping is Keeping.SQLITE:
        if not found.file.is_file() or found.file.stat().st_size == 0:
            raise NotFoundError(f"{found.service} has kept nothing yet: there is no {found.file}")
        if target == Path(os.path.realpath(found.file)):
            raise UsageError(f"{target} is the database itself", way_out="name another file: -o FILE")
    with _made(target) as temporary:
        if found.keeping is Keeping.POSTGRES:
            # Not to its stdout: what it appends there to a file hides that the file was cut off.
            _postgres(found, "pg_dump", ["-Fc", "-w", "--lock-wait-timeout=60s", "-f", str(temporary)])
        else:
            words = f"the database of {found.service} cannot be dumped"
            with _sqlite_errors(words), closing(_open(found.file)) as there:
                _copy_to_new(there, temporary)
        return temporary.stat().st_size


def check(found: Found, source: Path) -> None:
    """That it is a dump, and one of this kind of database. UsageError."""
    try:
        with source.open("rb") as stream:
            start = stream.read(16)
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}") from None
    kind = next((keeping for keeping, magic in _MAGIC.items() if start.startswith(magic)), None)
    if kind is None:
        shell = f"SQL text goes in by: shoal db shell {found.service} < {source}"
        raise UsageError(f"{source} is no dump that `shoal db dump` has made", way_out=shell)
    if kind is not found.keeping:
        raise UsageError(
            f"{source} is a dump of {_NAMES[kind]}, and the database of {found.service} is {_NAMES[found.keeping]}",
            way_out="name the service that it was made of",
        )


def restore(found: Found, source: Path) -> None:
    """All of it, or nothing has changed. EngineError, UsageError."""
    check(found, source)
    if found.keeping is Keeping.POSTGRES:
        name = found.variables.get("PGDATABASE", "").replace("\\", "\\\\").replace("'", "\\'")
        options = ["--clean", "--if-exists", "--single-transaction", "--no-owner", "-w", "-d", f"dbname='{name}'"]
        with source.open("rb") as stream:
            _postgres(found, "pg_restore", options, stdin=stream)
        return
    if source.exists() and found.file.exists() and source.samefile(found.file):
        raise UsageError(f"{source} is the database itself", way_out="name a dump")
    with _sqlite_errors(f"the database of {found.service} is as it was: {source} cannot be restored"):
        _restore_sqlite(source, found.file)


def shell(found: Found) -> tuple[ExecContext, list[str]]:
    """What is to be run, and how. EngineError, NotFoundError: it is not there."""
    import shutil

    here = replace(found.context, folder=str(Path.cwd()), env=found.context.env | found.variables)
    if found.keeping is Keeping.POSTGRES:
        return here, [_program("psql")]
    program = shutil.which("sqlite3")
    if program is None:
        raise NotFoundError(
            "there is no sqlite3 on the PATH",
            way_out=f"install it (apt install sqlite3), or open {found.file} with another program",
        )
    if not found.file.is_file():
        raise NotFoundError(f"{found.service} has kept nothing yet: there is no {found.file}")
    return here, [program, str(found.file)]


def _program(name: str) -> str:
    from shoal.engines.local.resources.programs import postgres_folder

    path = postgres_folder() / name
    if not path.is_file():
        raise EngineError(f"there is no {path}", way_out="name a folder that has it: SHOAL_POSTGRES=...")
    return str(path)


def _postgres(found: Found, program: str, options: list[str], *, stdin: IO[bytes] | None = None) -> None:
    """Runs one of its programs as the service would: with its names and in its network."""
    from shoal.client.plane import entering

    passed = {key: os.environ[key] for key in ("PATH", "HOME", "TZ") if key in os.environ}
    env = passed | {"LC_ALL": "C", "PGCONNECT_TIMEOUT": "10"} | found.variables
    ended = subprocess.run(
        entering(found.context, [_program(program), *options]),
        env=env,
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if ended.returncode == 0:
        return
    said = ended.stderr.decode("utf-8", "replace").strip()
    first = next((line for line in said.splitlines() if "error:" in line), said).removeprefix(f"{program}: error: ")
    done = "dumped" if program == "pg_dump" else "restored, and is as it was"
    way_out = "name the folder of a newer one: SHOAL_POSTGRES=..." if "version mismatch" in said else ""
    if "onnection refused" in said or "could not translate host" in said:
        way_out = "see whether it runs: shoal status"
    raise EngineError(
        f"the database of {found.service} cannot be {done}: {first.strip() or f'{program} failed'}",
        way_out=way_out,
        detail="\n".join(said.splitlines()[:20]),
    )


@contextmanager
def _made(target: Path) -> Iterator[Path]:
    """A new file that becomes `target` when all went well, and goes when not. EngineError."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise EngineError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        for path in (temporary, *_beside(temporary)):
            with suppress(OSError):
                path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in _BESIDE]


def _restore_sqlite(source: Path, target: Path) -> None:
    """Into the file that is there, in one transaction: whoever has it open sees the new content, and another file's
    -wal never comes to lie beside it. A file that is damaged is replaced, and kept."""
    with closing(_open_dump(source)) as dumped:
        _check_whole(dumped)
        if target.is_file() and target.stat().st_size:
            try:
                with closing(_open(target)) as there:
                    _fit_pages(dumped, there)
                    _copy(dumped, there)
                return
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                pass  # it is damaged
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _made(target) as temporary:
            _copy_to_new(dumped, temporary)
            _put_aside(target)


def _put_aside(damaged: Path) -> None:
    """It, if it is there; and what lies beside it, lest that be taken for the new one's."""
    kept = damaged.with_name(f"{damaged.name}.damaged-{time.time_ns()}")
    if damaged.exists() and damaged.stat().st_size:
        os.link(damaged, kept)
    for path, ending in zip(_beside(damaged), _BESIDE, strict=True):
        if path.exists():
            path.rename(kept.with_name(kept.name + ending))


def _copy_to_new(source: sqlite3.Connection, target: Path) -> None:
    with closing(_open(target)) as made:
        _copy(source, made)
        _check_whole(made)


def _open(path: Path, mode: str = "rw") -> sqlite3.Connection:
    name = quote(str(path.resolve()))
    return sqlite3.connect(f"file:{name}?mode={mode}", uri=True, timeout=1.0, isolation_level=None)


def _open_dump(path: Path) -> sqlite3.Connection:
    """Nothing is made beside it, and its folder may be read-only; unless it is a copy of a live one with its -wal."""
    live = any(beside.exists() and beside.stat().st_size for beside in _beside(path))
    return _open(path, "rw" if live else "ro&immutable=1")


def _check_whole(database: sqlite3.Connection) -> None:
    [said] = database.execute("PRAGMA integrity_check(1)").fetchone()
    if said != "ok":
        raise sqlite3.DatabaseError(said)


def _fit_pages(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """With a -wal a database cannot get pages of another size."""
    sizes = [one.execute("PRAGMA page_size").fetchone() for one in (source, target)]
    if sizes[0] != sizes[1] and target.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        target.execute("PRAGMA journal_mode = DELETE")


def _copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """In one transaction."""
    until = time.monotonic() + _BUSY_S_MAX

    def look(status: int, _remaining: int, _total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > until:
            raise sqlite3.OperationalError(f"somebody has held it for {_BUSY_S_MAX:g} s")

    source.backup(target, progress=look)


@contextmanager
def _sqlite_errors(words: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        way_out = ""
        if "locked" in str(error) or "held" in str(error):
            way_out = "end what uses it, and try again"
        raise EngineError(f"{words}: {error}", way_out=way_out) from error
