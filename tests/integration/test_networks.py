"""Networks of their own, for real: the same ports side by side, and no way between; as root and as nobody."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.engines.local import keeper
from shoal.engines.local.keeper import holder
from shoal.engines.local.keeper_client import KeeperError
from shoal.engines.local.networks import detection
from shoal.engines.local.networks.sockets import socket_of
from shoal.errors import EngineError
from tests.integration.keeper_box import PATIENCE_S, Box, alive, ask, keeper_box, until
from tests.integration.test_namespaces import HOSTS, NOBODY, public_python

POSSIBLE, WHY_NOT = detection.detect()
pytestmark = [pytest.mark.integration, pytest.mark.skipif(not POSSIBLE, reason=WHY_NOT)]

MESH = "network"
SERVER = """
import socket, sys
door = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listens", flush=True)
while True:
    connection, peer = door.accept()
    connection.sendall(f"{sys.argv[3]} called by {peer[0]}".encode())
    connection.close()
"""
CALL = """
import socket, sys
for where in sys.argv[1:]:
    host, _, port = where.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            print(connection.makefile().read(), flush=True)
    except OSError as error:
        print(error.strerror or type(error).__name__, flush=True)
"""
REFUSED, NO_WAY, AWAY = "Connection refused", "No route to host", "Network is unreachable"


def own(number: int, **more: Any) -> dict[str, Any]:
    return {"network": {"kind": "own", "mesh": MESH, "address": f"10.77.0.{number}"}, **more}


JOIN = {"network": {"kind": "join", "mesh": MESH}}


async def mesh(box: Box) -> Path:
    """Starts the mesh network; the holder's socket."""
    door = box.state.run / "network.sock"
    command = [sys.executable, "-I", "-S", holder.__file__, str(door)]
    await box.spawn(MESH, *command, namespace={"network": {"kind": "create"}})
    await until(door.exists)
    return door


async def server(box: Box, name: str, number: int, *, host: str = "0.0.0.0", port: int = 9080) -> int:
    pid = await box.spawn(name, sys.executable, "-I", "-S", "-c", SERVER, host, str(port), name, namespace=own(number))
    await box.lines_until(name, lambda lines: "listens" in lines)
    return pid


async def calls(box: Box, name: str, *where: str, namespace: dict[str, Any]) -> list[str]:
    return await box.run(name, sys.executable, "-I", "-S", "-c", CALL, *where, namespace=namespace)


def test_replicas_hold_the_same_port_and_the_mesh_reaches_each(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            await mesh(box)
            await server(box, "a-r1", 2)
            await server(box, "a-r2", 3)
            await server(box, "b-r1", 4, port=80)
            found = await calls(box, "envoy", "10.77.0.2:9080", "10.77.0.3:9080", "10.77.0.4:80", namespace=JOIN)
            assert found == [f"{name} called by 10.77.0.1" for name in ("a-r1", "a-r2", "b-r1")]

    asyncio.run(main())


def test_a_replica_reaches_edges_and_itself_and_no_other_replica(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            await mesh(box)
            await server(box, "a-r1", 2)
            edge = [sys.executable, "-I", "-S", "-c", SERVER, "10.78.1.7", "9080", "edge"]
            await box.spawn("edge", *edge, namespace=JOIN)
            await box.lines_until("edge", lambda lines: "listens" in lines)
            where = ("10.78.1.7:9080", "10.78.1.8:9080", "10.77.0.2:9080", "192.0.2.1:80")
            found = await calls(box, "caller", *where, namespace=own(3))
            assert found == ["edge called by 10.77.0.3", REFUSED, NO_WAY, AWAY]

    asyncio.run(main())


def test_names_and_a_network_come_together(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            await mesh(box)
            namespace = own(2, hosts=str(tmp_path / "hosts"), nsswitch=None)
            assert await box.run("names", "getent", "hosts", "product-service", namespace=namespace) == [
                "127.77.0.5      product-service"
            ]
            assert await box.run("uid", "id", "-u", namespace=namespace) == [str(os.getuid())]

    asyncio.run(main())


def test_an_address_moves_on_to_the_next_attempt_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            await mesh(box)
            for attempt in range(5):
                pid = await server(box, "a-r1", 2)
                # What the mesh remembers of the address from the attempt before must not lead astray.
                assert await calls(box, f"call{attempt}", "10.77.0.2:9080", namespace=JOIN) == [
                    "a-r1 called by 10.77.0.1"
                ]
                os.kill(pid, signal.SIGKILL)
                await box.exited("a-r1", pid=pid)
                box.log_path("a-r1").unlink()

    asyncio.run(main())


def test_sockets_of_a_network_reach_what_is_in_it_from_outside(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            door = await mesh(box)
            await server(box, "a-r1", 2)
            pid = await server(box, "b-r1", 3, host="127.0.0.1")
            loop = asyncio.get_running_loop()
            for inside, where, words in (
                (None, "10.77.0.2", b"a-r1 called by 10.77.0.1"),
                (pid, "127.0.0.1", b"b-r1 called by 127.0.0.1"),
            ):
                with await socket_of(door, pid=inside) as connection:
                    await loop.sock_connect(connection, (where, 9080))
                    assert await loop.sock_recv(connection, 100) == words
            with await socket_of(door) as connection, pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(connection, ("10.77.0.3", 9080))
            with pytest.raises(EngineError, match="No such file or directory"):
                await socket_of(door, pid=2**22 + 1)
            with pytest.raises(EngineError, match="does not answer on"):
                await socket_of(tmp_path / "no.sock")

    asyncio.run(main())


def test_networks_outlive_the_keeper(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            await mesh(box)
            await server(box, "a-r1", 2)
            await box.kill_keeper()
            await box.start()
            assert box.found["a-r1"]["running"]
            await server(box, "a-r2", 3)
            found = await calls(box, "envoy", "10.77.0.2:9080", "10.77.0.3:9080", namespace=JOIN)
            assert found == ["a-r1 called by 10.77.0.1", "a-r2 called by 10.77.0.1"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("network", "reason", "words"),
    [
        ({"kind": "own", "mesh": "nobody", "address": "10.77.0.2"}, "network-failed", "no process 'nobody' runs"),
        ({"kind": "own", "mesh": MESH, "address": "10.77.0.1"}, "bad-request", "no address of a replica"),
        ({"kind": "own", "mesh": MESH, "address": "10.77.0"}, "bad-request", "no address of a replica"),
        ({"kind": "other"}, "bad-request", "there are create, join, own"),
        ("own", "bad-request", "must be null or an object"),
    ],
)
def test_a_network_that_is_not_to_be_had_is_told(tmp_path: Path, network: object, reason: str, words: str) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            with pytest.raises(KeeperError, match=words) as caught:
                await box.spawn("a", "true", namespace={"network": network})
            assert caught.value.reason == reason

    asyncio.run(main())


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that the unprivileged user may enter, with the keeper's code."""
    with tempfile.TemporaryDirectory(prefix="shoal-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "hosts").write_text(HOSTS)
        shutil.copytree(Path(keeper.__file__).parent, folder / "keeper", ignore=shutil.ignore_patterns("__pycache__"))
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become nobody")
def test_a_keeper_without_rights_gives_networks_too(shared: Path) -> None:
    root, run = shared / "root", shared / "run"
    for folder in (root, root / "logs", run):
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY, NOBODY)
    python = [public_python(), "-I", "-S", "-B"]

    def start() -> None:
        command = [*python, str(shared / "keeper"), str(root), str(run), "--"]
        subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[], check=True, cwd="/", timeout=PATIENCE_S)

    def call(**request: object) -> dict[str, Any]:
        (answer,) = ask(run / "keeper.sock", json.dumps(request).encode() + b"\n")
        return answer

    def spawn(name: str, *argv: str, namespace: dict[str, Any]) -> None:
        log, env = str(root / "logs" / f"{name}.log"), {"PATH": os.environ["PATH"]}
        answer = call(op="spawn", name=name, argv=argv, env=env, cwd="/", log=log, namespace=namespace)
        assert "ok" in answer, answer

    def lines(name: str) -> list[str]:
        path = root / "logs" / f"{name}.log"
        return [line.split(" ", 1)[1] for line in path.read_text().splitlines()] if path.exists() else []

    def running() -> set[str]:
        return {found["name"] for found in call(op="list")["ok"]["processes"] if found["running"]}

    async def said(name: str, count: int) -> list[str]:
        await until(lambda: len(lines(name)) >= count, name)
        return lines(name)

    rights = "import os, sys; print(os.getuid(), [l.split()[1] for l in open('/proc/self/status') if 'CapEff' in l][0])"

    async def main() -> None:
        start()
        door = run / "network.sock"
        command = [*python, str(shared / "keeper" / "holder.py"), str(door)]
        spawn(MESH, *command, namespace={"network": {"kind": "create"}})
        await until(door.exists)
        for number, name, port in ((2, "a-r1", "9080"), (3, "a-r2", "9080"), (4, "b-r1", "80")):
            spawn(name, *python, "-c", SERVER, "0.0.0.0", port, name, namespace=own(number))
            await said(name, 1)
        spawn("edge", *python, "-c", SERVER, "10.78.0.1", "80", "edge", namespace=JOIN)
        await said("edge", 1)
        spawn("uid", *python, "-c", rights, namespace=own(5, hosts=str(shared / "hosts"), nsswitch=None))
        assert await said("uid", 1) == [f"{NOBODY} 0000000000000000"]

        pid = call(op="hello")["ok"]["pid"]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid))
        start()
        where = ("10.77.0.2:9080", "10.77.0.3:9080", "10.77.0.4:80")
        spawn("envoy", *python, "-c", CALL, *where, namespace=JOIN)
        assert await said("envoy", 3) == [f"{name} called by 10.77.0.1" for name in ("a-r1", "a-r2", "b-r1")]
        spawn("caller", *python, "-c", CALL, "10.78.0.1:80", *where, "192.0.2.1:80", namespace=own(6))
        assert await said("caller", 5) == ["edge called by 10.77.0.6", NO_WAY, NO_WAY, NO_WAY, AWAY]
        # No way into the others' networks either, nor by a route of its own.
        holder_pid = next(p["pid"] for p in call(op="list")["ok"]["processes"] if p["name"] == MESH)
        escapes = f"nsenter -t {holder_pid} -n true; ip route replace 10.77.0.2/32 dev eth0; ip link del eth0; echo end"
        spawn("escaper", "sh", "-c", escapes, namespace=own(7))
        *refusals, end = await said("escaper", 4)
        assert end == "end"
        assert all("denied" in words or "not permitted" in words for words in refusals), refusals

    try:
        asyncio.run(main())
    finally:
        call(op="shutdown")
        for name in running():
            call(op="signal", name=name, signal=9, group=True)
        asyncio.run(until(lambda: not (run / "keeper.sock").exists()))
    assert not (root / "processes").exists()


def test_a_machine_that_refuses_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusing = tmp_path / "trial.py"
    refusing.write_text("import sys\nsys.exit('the bridge mesh: Operation not supported')")
    monkeypatch.setattr(detection, "TRIAL", refusing)
    found, why = detection.detect()
    assert not found
    assert why.startswith("the bridge mesh: Operation not supported; the kernel modules 'bridge' and 'veth' must be")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert detection.detect()[1].startswith("networks of their own need Linux; use 'network: host'")
