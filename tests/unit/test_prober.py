"""The prober against a small server with one fault at a time: it must count it, and call it by its name."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.prober import Kind, prober

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Shoal-Replica: web-r1\r\n\r\nok"
FAULTS: dict[str, tuple[bytes | None, str]] = {
    "503": (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 11\r\n\r\nno upstream", "status 503: no upstream"),
    "404": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
    "closed": (b"", "closed: waiting for the answer, before it"),
    "half": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "closed: waiting for the answer, after 4 bytes"),
    "nonsense": (b"nonsense\r\n\r\n", "broken: "),
    "reset": (None, "reset: "),
}


class Server:
    """Answers GOOD; once `fault` is set, exactly one request gets it. Runs on a loop in its own thread."""

    def __init__(self) -> None:
        self.fault: bytes | None = GOOD
        self.stall = False
        self.keys: list[str] = []
        self.connections = 0
        self._tasks: set[asyncio.Task[None] | None] = set()  # the loop itself holds tasks only weakly
        self._armed = threading.Lock()
        self._struck = threading.Event()
        self._armed.acquire()
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def strike(self, fault: bytes | None, *, stall: bool = False) -> None:
        """Returns once a request has met it: with answers counted afterwards, a slow machine might come to its end
        before."""
        self.fault, self.stall = fault, stall
        self._struck.clear()
        self._armed.release()
        assert self._struck.wait(60)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"POST"):
                    await reader.readexactly(2)
                self.keys += [line[17:].decode() for line in head.split(b"\r\n") if line.startswith(b"Idempotency-Key")]
                if not self._armed.acquire(blocking=False):
                    writer.write(GOOD)
                    await writer.drain()
                    continue
                self._struck.set()
                if self.stall:
                    await asyncio.Event().wait()
                if self.fault is None:
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                    return
                writer.write(self.fault)
                if not self.fault.startswith((b"HTTP/1.1 503", b"HTTP/1.1 404")):
                    return  # those are whole, and say nothing of an end of the connection
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def test_nothing_is_lost_where_nothing_fails(server: Server) -> None:
    with prober(server.url, rate=2000, before=20, after=20) as probe:
        pass
    probe.assert_nothing_lost()
    for tally in probe.report().values():
        assert tally.sent == tally.ok >= 40
        assert set(tally.replicas) == {"web-r1"}
    assert len(set(server.keys)) == len(server.keys) == probe.report()[Kind.KEYED].sent
    # One worker in three opens a connection for each request; the others keep theirs.
    assert server.connections > 6


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_is_one_loss_with_its_reason(server: Server, kind: Kind, fault: str) -> None:
    answer, words = FAULTS[fault]
    with prober(server.url, kinds=[kind], rate=1000, before=10, after=20) as probe:
        server.strike(answer)
    [lost] = probe.report()[kind].lost
    assert words in lost.reason
    assert words in str(lost) and words in probe.summary()
    with pytest.raises(AssertionError, match="1 requests were lost"):
        probe.assert_nothing_lost()
    probe.assert_nothing_lost(kinds=set(Kind) - {kind})


def test_an_answer_that_does_not_come_is_a_timeout(server: Server) -> None:
    with prober(server.url, kinds=[Kind.GET], rate=1000, timeout_s=0.3, before=10, after=5) as probe:
        server.strike(b"", stall=True)
        probe.wait_for_answers(300)
    assert [lost.reason for lost in probe.report()[Kind.GET].lost] == ["timeout: 0.3 s waiting for the answer"]


def test_an_idle_connection_closed_politely_is_no_loss(server: Server) -> None:
    """A connection that was closed after a whole answer is replaced, as any client would."""
    with prober(server.url, kinds=[Kind.GET], rate=1000, before=10, after=20) as probe:
        server.strike(GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    probe.assert_nothing_lost()


@contextmanager
def refused() -> Iterator[str]:
    """A port where nobody listens and nobody can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def test_a_refused_connection_is_told_from_a_reset() -> None:
    with refused() as url, prober(url, rate=1000, before=5, after=5) as probe:
        pass
    for tally in probe.report().values():
        assert tally.ok == 0
        assert all(lost.reason.startswith("connect: ") and lost.fresh for lost in tally.lost)
    with pytest.raises(AssertionError, match="no request was answered well"):
        probe.assert_nothing_lost()


def test_it_stops_at_its_limit_and_says_that_answers_are_missing(server: Server) -> None:
    probe = prober(server.url, rate=5000, limit=30, before=5, after=0)
    with probe, pytest.raises(AssertionError, match="fewer than 100 more answers"):
        probe.wait_for_answers(100, within_s=0.3)
    assert sum(tally.sent for tally in probe.report().values()) <= 30


@pytest.mark.parametrize("encode", [lambda body: body, lambda body: b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n"])
def test_an_answer_in_chunks_is_read_whole(encode: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    body = encode(b"ok")
    length = b"Transfer-Encoding: chunked" if body != b"ok" else b"Content-Length: 2"
    monkeypatch.setattr("tests.unit.test_prober.GOOD", head + length + b"\r\n\r\n" + body)
    server = Server()
    try:
        with prober(server.url, kinds=[Kind.GET], rate=1000, before=10, after=10) as probe:
            pass
        probe.assert_nothing_lost()
    finally:
        server.close()


def test_it_serves_a_test_on_an_event_loop_too(server: Server) -> None:
    async def disturb() -> None:
        async with prober(server.url, rate=1000, before=10, after=10) as probe:
            pass
        probe.assert_nothing_lost()

    asyncio.run(disturb())
