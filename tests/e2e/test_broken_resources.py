"""Full disks and damaged folders under the real PostgreSQL and nats-server: what is said, and that all comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.engines.local.resources import programs
from shoal.sdk import streams
from tests.support.plane import Plane, plane

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

APP = f"""
app: data
services:
  web: {{command: ["{sys.executable}", -c, "import time; time.sleep(10000)"], database: postgres, uses: [nats]}}
"""


@contextlib.contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[Path]:
    """A disk of its own for what is in `folder`; gives the path of a file that may fill it."""
    moved = folder.with_name(folder.name + ".moved")
    owner, mode = folder.stat(), folder.stat().st_mode & 0o777
    folder.rename(moved)
    folder.mkdir(mode)
    options = f"size={megabytes}m,uid={owner.st_uid},gid={owner.st_gid},mode={mode:o}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("cannot make a mount namespace here")
    try:
        subprocess.run(["cp", "-a", f"{moved}/.", str(folder)], check=True)
        yield folder / "fill"
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()
        moved.rename(folder)


def fill(path: Path, *, leave: int = 0) -> None:
    free = os.statvfs(path.parent)
    with path.open("wb") as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leave)


def variables(shoal: Plane) -> dict[str, str]:
    pid = next(pid for name, pid in shoal.pids().items() if name.startswith("web-r"))
    found = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(entry.decode().split("=", 1) for entry in found if b"=" in entry)


def psql(shoal: Plane, statement: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in variables(shoal).items() if key.startswith("PG")}
    line = [str(programs.postgres_folder() / "psql"), "-X", "-w", "-At", "-c", statement]
    return subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=30)


def publish(shoal: Plane, size: int) -> bool:
    """Whether NATS has it on the disk."""

    async def body() -> None:
        async with streams.connected(variables(shoal)["NATS_URL"], "test") as broker:
            await broker.js.publish("events.web.made", b"x" * size)

    try:
        asyncio.run(body())
    except Exception as error:
        print(repr(error))
        return False
    return True


def is_ready(shoal: Plane, service: str) -> bool:
    return [replica["state"] for replica in shoal.replicas(service)] == ["ready"]


def test_a_full_disk_is_said_and_what_was_kept_is_there_once_there_is_room(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("cannot make a mount namespace here")
    with plane(tmp_path / "app", files={"shoal.yaml": APP}) as shoal:
        shoal.up()
        assert psql(shoal, "create table t as select 7 as id").returncode == 0
        assert publish(shoal, 10)
        shoal.down()
        resources = shoal.root / "resources"
        with (
            small_disk((resources / "postgres" / "data").resolve(), megabytes=120) as of_postgres,
            small_disk(resources / "nats" / "data", megabytes=8) as of_nats,
        ):
            try:
                shoal.up()
                fill(of_nats, leave=40_000)
                while publish(shoal, 9000):
                    pass
                fill(of_postgres)
                refused = psql(
                    shoal, "create table big as select repeat(md5(i::text), 99) from generate_series(1, 99999) i"
                )
                assert "No space left on device" in refused.stderr
                shoal.eventually(lambda: not is_ready(shoal, "nats"), "the end of NATS's readiness")
                told = shoal.shoal("explain", "nats").stdout + shoal.shoal("logs", "nats", "--tail", "50").stdout
                assert "no space left on device" in told
                of_nats.unlink()
                of_postgres.unlink()
                shoal.eventually(lambda: publish(shoal, 10), "NATS, which has room", within_s=90)
                shoal.eventually(lambda: is_ready(shoal, "postgres") and is_ready(shoal, "nats"), "both", within_s=60)
                assert psql(shoal, "select id from t").stdout == "7\n"
            finally:
                shoal.down()


def test_a_damaged_folder_is_said_and_left_as_it_is(tmp_path: Path) -> None:
    with plane(tmp_path / "app", files={"shoal.yaml": APP}) as shoal:
        shoal.up()
        assert psql(shoal, "create table t as select 7 as id").returncode == 0
        shoal.down()
        password = shoal.root / "resources" / "postgres" / "password"
        away = password.rename(tmp_path / "password")
        failed = shoal.shoal("up", "-d", check=False)
        assert failed.returncode != 0
        assert "holds a database whose password was in" in failed.stderr and "start afresh: rm -r" in failed.stderr
        shoal.down()
        away.rename(password)
        control = (shoal.root / "resources" / "postgres" / "data").resolve() / "global" / "pg_control"
        whole = control.read_bytes()
        control.write_bytes(whole[:40] + b"\xff" * 8 + whole[48:])
        failed = shoal.shoal("up", "-d", check=False)
        assert failed.returncode != 0
        told = failed.stdout + failed.stderr + shoal.shoal("explain", "postgres").stdout
        assert told.count("incorrect checksum in control file") >= 2
        control.write_bytes(whole)
        shoal.eventually(lambda: is_ready(shoal, "web"), "the app", within_s=60)
        assert psql(shoal, "select id from t").stdout == "7\n"
