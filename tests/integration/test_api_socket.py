"""Client and server over a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from shoal.api.server import serve
from shoal.client.http import Client
from shoal.engines.local.keeper.logs import stamp
from shoal.errors import ConflictError, NotFoundError, NotRunningError, ShoalError, StoreError, UsageError
from shoal.model.journal import JournalEntry
from shoal.spec.wire import to_plain
from tests.support.api import APP, CONTEXT, EXPLANATION, SERVICE, STATUS, Plane

pytestmark = pytest.mark.integration

T = TypeVar("T")
START = 1_700_000_000.0


class Server:
    """The API on a loop in a thread of its own, which can be ended and started again."""

    def __init__(self, plane: Plane, path: Path, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.plane = plane
        self._ready = threading.Event()
        self._loop = factory()
        self._task: asyncio.Task[None] | None = None
        self._path = path
        self.ended_in_s = 0.0
        self.tasks_left = -1
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        ready = asyncio.Event()
        self._task = asyncio.create_task(serve(self.plane.app, self._path, ready=ready))
        await ready.wait()
        self._ready.set()
        with suppress(asyncio.CancelledError):
            await self._task
        self.tasks_left = len(asyncio.all_tasks()) - 1

    def do(self, function: Callable[[], T]) -> T:
        """In the server's thread."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(function())
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(10)

    def happen(self, subject: str = "app") -> JournalEntry:
        return self.do(lambda: self.plane.happen(subject))

    def end(self) -> None:
        if self._thread.is_alive():
            began = time.monotonic()
            assert self._task is not None
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(15)
            assert not self._thread.is_alive()
            self.ended_in_s = time.monotonic() - began


@pytest.fixture(params=["asyncio", "uvloop"])
def factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    (tmp_path / "logs").mkdir()
    return Plane(tmp_path / "logs")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
def server(plane: Plane, path: Path, factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[Server]:
    server = Server(plane, path, factory)
    yield server
    server.end()


@pytest.fixture
def client(server: Server, path: Path) -> Client:
    return Client(path)


@contextmanager
def reading(stream: Iterator[T]) -> Iterator[Callable[[int], list[T]]]:
    """Reads a stream in a thread. Gives a function that waits until so many items came, and gives all of them."""
    items: list[T] = []
    came = threading.Condition()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for item in stream:
                with came:
                    items.append(item)
                    came.notify_all()
        except BaseException as error:
            errors.append(error)
            with came:
                came.notify_all()

    def until(count: int) -> list[T]:
        with came:
            assert came.wait_for(lambda: len(items) >= count or errors, 20), items
            assert not errors, errors
            return list(items)

    thread = threading.Thread(target=read)
    thread.start()
    yield until
    thread.join(30)
    assert not thread.is_alive()
    assert all(isinstance(error, NotRunningError) for error in errors), errors


# Calls


def test_every_call_gives_the_value_of_the_daemon(client: Client, plane: Plane) -> None:
    assert client.status() == STATUS
    assert client.explain("cart") == EXPLANATION
    assert client.exec_context("cart") == CONTEXT
    assert client.scale("cart", 1) == SERVICE
    assert client.restart("cart") == SERVICE
    assert client.deploy(to_plain(APP)).changed == ("cart",)
    client.down()
    assert [asked[0] for asked in plane.commands.asked] == [
        "status", "explain", "exec", "scale", "restart", "deploy", "down",
    ]  # fmt: skip
    assert plane.commands.asked[5] == ("deploy", APP)


def test_errors_come_back_as_they_were_raised(client: Client, plane: Plane) -> None:
    with pytest.raises(NotFoundError) as missing:
        client.explain("no such % service?")
    assert missing.value.way_out == "there are: cart"
    plane.commands.broken = ConflictError("port 8080 is taken", way_out="free it", detail="a\nb")
    with pytest.raises(ConflictError) as conflict:
        client.deploy(to_plain(APP))
    assert (conflict.value.message, conflict.value.way_out, conflict.value.detail) == (
        "port 8080 is taken",
        "free it",
        "a\nb",
    )
    with pytest.raises(UsageError, match="the body has a flaw"):
        client.deploy({"name": "x", "services": 3})


def test_a_large_app_goes_through_and_a_too_large_one_is_refused(client: Client, plane: Plane) -> None:
    document = to_plain(APP)
    document["services"][0]["env"] = [[f"NAME_{number}", "x" * 1000] for number in range(5000)]
    client.deploy(document)
    document["services"][0]["env"] = [["NAME", "x" * 9_000_000]]
    with pytest.raises(UsageError, match="more than 8,388,608 bytes"):
        client.deploy(document)
    assert client.status() == STATUS


def test_many_clients_at_once_are_answered(client: Client) -> None:
    answers: list[object] = []
    threads = [threading.Thread(target=lambda: answers.append(client.status())) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [STATUS] * 50


def test_a_connection_may_be_kept_for_several_requests(server: Server, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        for _ in range(3):
            connection.sendall(b"GET /v1/services/cart/exec HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"server:" not in answer and b"date:" not in answer


# The socket


def test_only_its_owner_can_open_the_socket(server: Server, path: Path) -> None:
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    assert sorted(os.listdir(path.parent)) == ["api.sock", "logs"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_and_told_so(server: Server, path: Path) -> None:
    for folder in [path.parent, *path.parent.parents]:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    script = f"""
import os
from pathlib import Path
from shoal.client.http import Client
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try: Client(Path({str(path)!r})).status()
except Exception as error: print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("NotRunningError cannot talk to the app through"), done
    assert "Permission denied" in done.stdout


def test_ending_removes_the_socket(server: Server, path: Path, client: Client) -> None:
    server.end()
    assert not path.exists()
    with pytest.raises(NotRunningError, match="the app is not running"):
        client.status()


def test_a_dead_daemons_socket_is_replaced(plane: Plane, path: Path, factory: Any) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with pytest.raises(NotRunningError, match="the app is not running"):
        Client(path).status()
    server = Server(plane, path, factory)
    assert Client(path).status() == STATUS
    server.end()


def test_an_old_daemon_that_ends_late_leaves_the_new_ones_socket(plane: Plane, path: Path, factory: Any) -> None:
    old = Server(plane, path, factory)
    new = Server(Plane(plane.logs), path, factory)
    old.end()
    assert Client(path).status() == STATUS
    new.end()
    assert not path.exists()


def test_a_folder_that_is_not_there_is_said_in_words(plane: Plane, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot listen on .*/no/api\.sock: No such file or directory"):
        asyncio.run(serve(plane.app, tmp_path / "no" / "api.sock"))
    with pytest.raises(StoreError, match=r"cannot listen on .*AF_UNIX path too long"):
        asyncio.run(serve(plane.app, tmp_path / ("x" * 120)))


# Streams


def test_events_are_followed(client: Client, server: Server) -> None:
    server.happen("cart-r1")
    server.happen("app")
    assert [entry.sequence for entry in client.events()] == [1, 2]
    assert [entry.sequence for entry in client.events(-1)] == [2]
    assert [entry.sequence for entry in client.events(limit=1)] == [1]
    assert [entry.sequence for entry in client.events(subject="cart")] == [1]
    with reading(client.events(1, follow=True, reconnect_s=0)) as until:
        assert [entry.sequence for entry in until(1)] == [2]
        expected = [server.happen() for _ in range(100)]
        assert until(101)[1:] == expected
        server.end()


def test_events_go_on_when_the_daemon_comes_back(
    plane: Plane, server: Server, client: Client, path: Path, factory: Any
) -> None:
    server.happen()
    with reading(client.events(follow=True, reconnect_s=2)) as until:
        until(1)
        for round_ in range(3):
            server.end()
            plane.store.append(1.0, "Kind", "app", "while nobody listened", {})
            server = Server(plane_again(plane), path, factory)
            server.happen()
            assert [entry.sequence for entry in until(3 + 2 * round_)] == list(range(1, 4 + 2 * round_))
        server.end()
        began = time.monotonic()
    assert time.monotonic() - began < 20


def plane_again(plane: Plane) -> Plane:
    """The next daemon on the same state."""
    return Plane(plane.logs, plane.store)


def write_log(plane: Plane, replica: str, *lines: tuple[float, str]) -> None:
    path = plane.logs / "cart" / f"{replica}.log"
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(stamp(START + at) + text.encode() + b"\n" for at, text in lines))


def test_logs_are_followed_through_a_restart_of_the_daemon(
    plane: Plane, server: Server, client: Client, path: Path, factory: Any
) -> None:
    write_log(plane, "cart-r1", *((1, f"same moment {n}") for n in range(5)))
    write_log(plane, "cart-r2", (0.5, "early"), (1, "other"))
    assert [line.text for line in client.logs("cart", tail=1, replica="cart-r2")] == ["other"]
    with reading(client.logs("cart", follow=True, reconnect_s=2)) as until:
        assert len(until(7)) == 7
        write_log(plane, "cart-r1", (1, "same moment 5"))
        until(8)
        server.end()
        write_log(plane, "cart-r1", (1, "same moment 6"), (2, "later"))
        write_log(plane, "cart-r3", (1.5, "new"))
        server = Server(plane_again(plane), path, factory)
        texts = [line.text for line in until(11)]
        write_log(plane, "cart-r2", (3, "last"))
        texts = [line.text for line in until(12)]
        assert sorted(texts) == sorted(
            ["early", "other", "later", "new", "last", *(f"same moment {n}" for n in range(7))]
        )
        server.end()


def test_ending_the_server_ends_its_streams_at_once(server: Server, client: Client, plane: Plane) -> None:
    write_log(plane, "cart-r1", (1, "a"))
    with (
        reading(client.events(follow=True, reconnect_s=0)) as events,
        reading(client.logs("cart", follow=True, reconnect_s=0)) as logs,
    ):
        server.happen()
        events(1)
        logs(1)
        server.end()
    assert server.ended_in_s < 1.5
    assert server.tasks_left == 0


def test_a_reader_that_goes_away_ends_its_task(server: Server, client: Client, plane: Plane) -> None:
    server.happen()
    for _ in range(5):
        stream = client.events(follow=True)
        assert next(stream).sequence == 1
        stream.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while server.do(lambda: len(plane.feed._listeners)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_reader_that_does_not_read_holds_up_nobody(server: Server, client: Client, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.connect(str(path))
        stuck.sendall(b"GET /v1/events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
        for _ in range(20):
            server.do(lambda: [server.plane.happen() for _ in range(500)] and None)
        assert client.status() == STATUS
        assert len(list(client.events(-3))) == 3
        server.end()
    assert server.ended_in_s < 5


def test_a_daemon_that_dies_in_the_midst_of_an_answer_is_said_so(path: Path) -> None:
    def die(listener: socket.socket) -> None:
        for answer in (
            b"",
            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{",
        ):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=die, args=(listener,))
        thread.start()
        for _ in range(3):
            with pytest.raises(NotRunningError, match="the daemon ended while it answered; its keeper starts it again"):
                Client(path).status()
        thread.join(10)


def test_a_daemon_that_does_not_answer_is_given_up(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(NotRunningError, match=r"the daemon did not answer within 0\.2 s"):
            Client(path, timeout_s=0.2).status()


def test_garbage_is_answered_and_the_server_goes_on(server: Server, client: Client, path: Path) -> None:
    for garbage in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/deploy HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
    ):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(path))
            connection.sendall(garbage)
            assert connection.recv(65536).startswith(b"HTTP/1.1 4")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"POST /v1/deploy HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\nhalf")
    assert client.status() == STATUS


def test_a_failure_is_told_without_its_insides(client: Client, plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    plane.commands.broken = RuntimeError("hunter2")
    with pytest.raises(ShoalError, match="Shoal failed at GET /v1/app") as failed:
        client.status()
    assert "hunter2" not in json.dumps([failed.value.message, failed.value.way_out, failed.value.detail])
