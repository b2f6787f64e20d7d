"""What clients may do to the keeper: anything, and it goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from shoal.engines.local.keeper_client import KeeperClient, KeeperError
from shoal.errors import EngineError, NotRunningError
from tests.integration.keeper_box import PATIENCE_S, alive, ask, keeper_box, until

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"no json\n", "no JSON"),
        (b"\n", "no JSON"),
        (b"\xff\xfe\n", "no JSON"),
        (b"[" * 100_000 + b"\n", "no JSON"),
        (b"[1]\n", "a request is a JSON object"),
        (b"{}\n", "no operation None"),
        (b'{"op": ["list"]}\n', "no operation"),
        (b'{"op": "signal", "name": 1, "signal": 9}\n', "'name' must be a string"),
        (b'{"op": "signal", "name": "x", "signal": true}\n', "'signal' must be a whole number"),
        (b'{"op": "signal", "name": "x"}\n', "'signal' must be a whole number, not None"),
        (b'{"op": "spawn", "name": "x", "argv": "sh"}\n', "'argv' must be a list of strings"),
        (b'{"op": "spawn", "name": "x", "argv": ["sh"], "env": []}\n', "'env' must be an object of strings"),
        (b'{"op": "lease_network", "avoid": 3}\n', "'avoid' must be a list"),
    ],
)
def test_a_wrong_request_is_answered_and_changes_nothing(tmp_path: Path, line: bytes, words: str) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            wrong, right = await asyncio.to_thread(ask, box.state.keeper_socket, line, b'{"id": 5, "op": "hello"}\n')
            assert wrong["error"]["code"] == "bad-request"
            assert words in wrong["error"]["message"]
            assert right["id"] == 5
            assert right["ok"]["protocol"] == 1

    asyncio.run(main())


def test_requests_may_come_in_any_pieces(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            pieces = [bytes([byte]) for byte in b'{"id": 1, "op": "hello"}\n{"id": 2, "op": "list"}\n{"id": 3,']
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(PATIENCE_S)
                connection.connect(os.fspath(box.state.keeper_socket))
                for piece in pieces:
                    connection.sendall(piece)
                answers = b""
                while answers.count(b"\n") < 2:
                    answers += connection.recv(4096)
            assert answers.startswith(b'{"id":1,"ok":{"pid":')
            assert b'{"id":2,"ok":{"processes":[]}}' in answers

    asyncio.run(main())


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            answers = await asyncio.to_thread(ask, box.state.keeper_socket, *[b"x" * (1 << 20)] * 6)
            assert [answer["error"]["code"] for answer in answers] in ([], ["bad-request"])
            await box.lines_until(
                "keeper", lambda lines: any("dropped a client: a request of" in line for line in lines)
            )
            assert await box.pid() > 0

    asyncio.run(main())


def test_a_client_that_never_reads_is_dropped_and_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            deaf = socket.socket(socket.AF_UNIX)
            greedy = socket.socket(socket.AF_UNIX)
            with deaf, greedy:
                for connection in (deaf, greedy):
                    connection.connect(os.fspath(box.state.keeper_socket))
                deaf.sendall(b'{"op": "attach"}\n')
                greedy.setblocking(False)
                with pytest.raises(BlockingIOError):  # its requests wait with its unread answers
                    for _ in range(1_000_000):
                        greedy.send(b'{"op": "list", "id": "%s"}\n' % (b"x" * 1000))
                tag = {"big": "x" * 100_000}
                for number in range(50):
                    await box.spawn(f"p{number}", "true", tag=tag)
                    await box.exited(f"p{number}")
                await box.lines_until("keeper", lambda lines: any("bytes unread" in line for line in lines))
                assert len(box.seen) == 100  # who reads has all
                for number in range(50):
                    await box.client.call("forget", name=f"p{number}")

    asyncio.run(main())


def test_many_may_attach(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            others = [await KeeperClient.connect(box.state.keeper_socket) for _ in range(10)]
            for other in others:
                assert await other.attach() == []
            await box.spawn("web", "sh", "-c", "exit 2")
            for other in others:
                kinds = []
                async for event in other.events():
                    kinds.append((event["event"], event.get("exit_code")))
                    if event["event"] == "exited":
                        break
                assert kinds == [("spawned", None), ("exited", 2)]
                await other.close()
                await other.close()
                with pytest.raises(EngineError, match="gone"):
                    await other.call("list")

    asyncio.run(main())


def test_more_clients_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            crowd = [socket.socket(socket.AF_UNIX) for _ in range(70)]
            try:
                for connection in crowd:
                    # Blocking: a full queue keeps us waiting instead of failing.
                    await asyncio.to_thread(connection.connect, os.fspath(box.state.keeper_socket))
                crowd[-1].settimeout(PATIENCE_S)
                assert crowd[-1].recv(1) == b""
                assert await box.pid() > 0
            finally:
                for connection in crowd:
                    connection.close()

    asyncio.run(main())


def test_the_client_tells_what_the_keeper_said_and_when_it_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(NotRunningError, match="no keeper answers"):
            await KeeperClient.connect(tmp_path / "nothing.sock")
        async with keeper_box(tmp_path) as box:
            with pytest.raises(KeeperError, match="no process named nobody") as caught:
                await box.client.call("forget", name="nobody")
            assert caught.value.reason == "unknown"
            keeper = await box.pid()
            os.kill(keeper, signal.SIGSTOP)
            calls = [asyncio.create_task(box.client.call("hello")) for _ in range(3)]
            await asyncio.sleep(0)
            os.kill(keeper, signal.SIGKILL)
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, EngineError) for result in results)
            await until(lambda: not alive(keeper))
            assert [event async for event in box.client.events()] == []
            await box.client.close()
            await box.start()

    asyncio.run(main())


def test_the_socket_is_the_users_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            assert box.state.keeper_socket.stat().st_mode & 0o777 == 0o600
            assert box.state.run.stat().st_mode & 0o777 == 0o700
            assert box.state.root.stat().st_mode & 0o777 == 0o700
            await box.run("web", "echo", "up")
            private = [box.log_path("web"), box.state.processes / "web.json", box.state.processes / "web.fifo"]
            assert {path.stat().st_mode & 0o777 for path in private} == {0o600}

    asyncio.run(main())
