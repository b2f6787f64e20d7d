"""What an answer means, and what is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from shoal.engines.local import watch as watch_module
from shoal.engines.local.probe import READY, Result, Target, judge, probe
from shoal.engines.local.prober import Probed, Prober
from shoal.model.event import Event, ProbeFailed, ProbeSucceeded
from shoal.model.replica import TcpAddress, UnixAddress
from shoal.testing.virtual_time import run as run_virtually


@pytest.mark.parametrize(
    ("head", "health", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n", "/healthz", READY),
        (b"HTTP/1.0 204 No Content\r\n", "/healthz", READY),
        (b"HTTP/1.1 302 Found\r\n", "/healthz", READY),
        (b"HTTP/1.1 404 Not Found\r\n", "/healthz", Result(False, "HTTP 404 on /healthz")),
        (b"HTTP/1.1 503 Service Unavailable\r\n", "/healthz", Result(False, "HTTP 503 on /healthz")),
        (b"HTTP/1.1 200\r\n", None, READY),
        (b"HTTP/1.1 404 Not Found\r\n", None, READY),
        (b"HTTP/1.1 400 Bad Request\r\n", None, READY),
        (b"HTTP/1.1 500 Internal Server Error\r\n", None, Result(False, "HTTP 500 on /")),
        (b"", None, Result(False, "closed the connection without an answer")),
        (b"+OK redis\r\n", None, Result(False, "the answer is not HTTP: '+OK redis'")),
        (b"\x00\xff\x01", None, Result(False, "the answer is not HTTP: '\\x00\ufffd\\x01'")),
    ],
)
def test_an_answer_is_judged_by_its_first_line(head: bytes, health: str | None, expected: Result) -> None:
    assert judge(head, health) == expected


def ask(behaviour: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object] | None, **target: str) -> Result:
    """Probes a Unix socket whose server does `behaviour`; None: nobody listens there any more."""

    async def main(path: str) -> Result:
        served = asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert behaviour is not None
            answer = behaviour(reader, writer)
            if asyncio.iscoroutine(answer):
                await answer
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            served.set()

        server = await asyncio.start_unix_server(handle, path)
        if behaviour is None:
            server.close()
        try:
            health = target.get("health")
            return await probe(Target(address=UnixAddress(path=path), health=health), timeout_s=0.2)
        finally:
            server.close()
            if behaviour is not None:
                await served.wait()

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        return asyncio.run(main(f"{folder}/s"))


def test_the_request_is_one_that_picky_frameworks_answer() -> None:
    heads: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    assert ask(record, health="/healthz") == READY
    assert heads[0].startswith(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n")


def test_a_server_that_hangs_up_gives_no_answer() -> None:
    assert ask(lambda reader, writer: None) == Result(False, "closed the connection without an answer")


def test_a_server_that_is_silent_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    assert ask(silent) == Result(False, "no answer in 0.2 s")


def test_where_nobody_listens_is_said_in_words(tmp_path: Path) -> None:
    missing = Target(address=UnixAddress(path=str(tmp_path / "no.sock")), health=None)
    closed = Target(address=TcpAddress(host="127.0.0.1", port=1), health=None)
    assert asyncio.run(probe(missing)) == Result(False, "does not listen yet")
    assert asyncio.run(probe(closed)) == Result(False, "connection refused")


class Script:
    """Answers of a replica, one a probe; the last for ever. Records when it was asked."""

    def __init__(self, *results: Result) -> None:
        self.results = list(results)
        self.times: list[float] = []

    async def __call__(self, target: Target, *, timeout_s: float = 1.0) -> Result:
        self.times.append(round(asyncio.get_running_loop().time(), 3))
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]


def told(script: Script, monkeypatch: pytest.MonkeyPatch, *, for_s: float) -> list[str]:
    """What a prober puts into the inbox in so many (virtual) seconds."""

    async def look(target: Target, result: Result) -> Result:
        return result

    monkeypatch.setattr(watch_module, "probe", script)
    monkeypatch.setattr(watch_module, "look_closer", look)  # it reads /proc, in a thread
    events: list[str] = []

    async def put(event: Event) -> None:
        match event:
            case ProbeSucceeded():
                events.append("ok")
            case ProbeFailed(detail=detail):
                events.append(detail)

    async def main() -> None:
        prober = Prober(put)
        address = UnixAddress(path=os.devnull)
        prober.start(Probed(replica="web-r1", attempt=1, pid=1, address=address, health=None))
        await asyncio.sleep(for_s)
        await prober.close()

    run_virtually(main())
    return events


def test_the_same_words_while_it_boots_are_told_once_and_then_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(Result(False, "refused"))
    assert told(script, monkeypatch, for_s=0.9) == ["refused"]
    assert told(script, monkeypatch, for_s=6) == ["refused"] * 4


def test_the_first_probes_come_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(Result(False, "refused"))
    told(script, monkeypatch, for_s=0.3)
    first = script.times[0]
    assert [round(at - first, 3) for at in script.times[:4]] == [0, 0.02, 0.046, 0.08]


def test_steady_success_is_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(Script(READY), monkeypatch, for_s=30) == ["ok", "ok"]


def test_every_failure_of_a_ready_replica_is_told_and_its_return(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Result(False, "HTTP 503 on /")
    script = Script(READY, READY, READY, bad, bad, bad, READY)
    assert told(script, monkeypatch, for_s=20) == ["ok", "ok", *[bad.detail] * 3, "ok", "ok"]


def test_a_worker_is_ready_when_it_has_lived_a_second() -> None:
    events: list[tuple[float, Event]] = []

    async def put(event: Event) -> None:
        events.append((asyncio.get_running_loop().time(), event))

    async def main() -> None:
        prober = Prober(put)
        began = asyncio.get_running_loop().time()
        prober.start(Probed(replica="job-r1", attempt=3, pid=1, address=None, health=None))
        prober.start(Probed(replica="gone-r1", attempt=1, pid=1, address=None, health=None))
        await asyncio.sleep(0.5)
        prober.stop("gone-r1")
        await asyncio.sleep(5)
        await prober.close()
        (at, event) = events.pop()
        assert at - began == pytest.approx(1.0)
        assert isinstance(event, ProbeSucceeded)
        assert (event.replica, event.attempt) == ("job-r1", 3)
        assert not events

    run_virtually(main())
