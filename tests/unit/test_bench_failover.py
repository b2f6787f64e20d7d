"""What the failover benchmark makes of the requests that it sent."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator

import pytest
from bench.failover import Found, Vain, unavoidable
from bench.replicas import REPLICAS
from bench.steady import Sent, Steady, first_answer_s, lost, slow, slowest_s, troubled_s

from tests.support.port import free_port

KILL = 100.0


def sent(at: float, took_s: float = 0.005, **changes: object) -> Sent:
    values: dict[str, object] = {"kind": "GET", "at": at, "took_s": took_s, "pid": 1}
    return Sent(**(values | changes))  # type: ignore[arg-type]


WELL = [sent(99.0), sent(100.5)]
FAILED = sent(100.2, 5.0, lost="status 503", pid=0)
WAITED = sent(100.4, 2.0)


def test_an_undisturbed_load_has_no_losses_and_no_trouble() -> None:
    assert (lost(WELL), slow(WELL), troubled_s(WELL, KILL)) == (0, 0, 0.0)


def test_nothing_sent_is_nothing_lost() -> None:
    assert (lost([]), slow([]), slowest_s([]), troubled_s([], KILL)) == (0, 0, 0.0, 0.0)
    assert first_answer_s([], KILL, ()) is None


def test_a_lost_request_is_counted_and_is_no_slow_answer() -> None:
    requests = [*WELL, FAILED, WAITED]
    assert (lost(requests), slow(requests), slowest_s(requests)) == (1, 1, 2.0)


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        pytest.param([FAILED], 0.2, id="a lost one, when it was sent and not when it ended"),
        pytest.param([FAILED, WAITED], 0.4, id="the last of several"),
        pytest.param([sent(99.0, 3.0)], 0.0, id="one sent before is none"),
        pytest.param([sent(101.0, 0.25)], 0.0, id="as slow as allowed"),
    ],
)
def test_trouble_lasts_until_the_last_bad_request_was_sent(requests: list[Sent], expected: float) -> None:
    assert troubled_s(requests, KILL) == pytest.approx(expected)


def test_the_replacement_is_the_first_pid_that_nobody_knew() -> None:
    requests = [sent(100.1, pid=2), sent(100.3, 0.1, pid=9), sent(100.2, lost="status 500", pid=8), sent(99.0, pid=7)]
    assert first_answer_s(requests, KILL, {1, 2}) == pytest.approx(0.4)
    assert first_answer_s(requests, KILL, {1, 2, 9}) is None


def test_what_cannot_be_avoided_is_the_same_of_each_replica() -> None:
    assert unavoidable(0.5) == pytest.approx(REPLICAS * (0.5 + 1.0 + 0.3))


def test_the_last_attempt_in_vain_is_the_last_change_of_the_counter() -> None:
    counts = iter([3, 3, 4, 4])
    looked = threading.Event()

    def count() -> int:
        value = next(counts, None)
        if value is None:
            looked.set()
            return 4
        return value

    with Vain(count) as vain:
        assert looked.wait(30)
    assert vain.last_s(0.0) > 0
    assert vain.last_s(1e12) == 0


@pytest.fixture
def url() -> Iterator[str]:
    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(200)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self._answer(200 if self.headers["idempotency-key"] else 500)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("x-pid", str(os.getpid()))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_load_sends_both_kinds_and_keeps_what_became_of_each(url: str) -> None:
    with Steady(url) as load:
        pass
    assert {request.kind for request in load.requests} == {"GET", "POST"}
    assert load.pids() == {os.getpid()}
    found = Found()
    found.add(load, load.requests[0].at)
    assert (found.lost, found.sent) == (0, len(load.requests))


def test_a_load_that_nobody_answers_says_so() -> None:
    with Steady(f"http://127.0.0.1:{free_port()}") as load:
        pass
    assert lost(load.requests) == len(load.requests) > 0
    assert load.pids() == set()
