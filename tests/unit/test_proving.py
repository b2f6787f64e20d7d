"""What `shoal prove` asks, and what it makes of the answers."""

from __future__ import annotations

import socket
import threading

import pytest

from shoal.errors import UsageError
from shoal.proving.load import Load, Outcome
from shoal.proving.report import HEADER, Report, Row, lines, row, verdict
from shoal.proving.targets import Target, given, paths_of, sound

TARGET = Target(service="web", path="/", host="localhost:1", address=("127.0.0.1", 1))


def test_only_gets_that_need_nothing_are_asked() -> None:
    document = {
        "paths": {
            "/products": {"get": {"parameters": [{"name": "page", "in": "query", "required": False}]}},
            "/products/{id}": {"get": {}},
            "/search": {"get": {"parameters": [{"name": "q", "in": "query", "required": True}]}},
            "/me": {"get": {"security": [{"bearer": []}]}},
            "/orders": {"post": {}},
            "/odd": 3,
        }
    }
    assert paths_of(document) == ["/products"]
    assert paths_of({}) == []
    assert paths_of({"paths": []}) == []


@pytest.mark.parametrize("url", ["https://localhost/", "http://example.com/", "http://10.0.0.1:80/", "localhost:8080"])
def test_load_goes_to_this_machine_alone(url: str) -> None:
    with pytest.raises(UsageError, match="of this machine"):
        given([url])


def test_a_given_url_keeps_its_host_and_query() -> None:
    (target,) = given(["http://shop.localhost:8080/search?q=net"])
    assert (target.host, target.address, target.path) == ("shop.localhost:8080", ("127.0.0.1", 8080), "/search?q=net")


def quiet() -> Row:
    return row("nothing", "nothing", None, [Outcome(TARGET, 0.0, 0.01)] * 10, recovery_s=0.0)


def report(*rows: Row) -> Report:
    return Report(app="shop", seconds=9.0, targets=("GET /",), left_out=(), quiet=quiet(), rows=rows)


def test_a_row_counts_what_was_lost_and_why() -> None:
    outcomes = [Outcome(TARGET, 0.0, took / 1000) for took in range(1, 101)]
    outcomes += [Outcome(TARGET, 0.0, 1.0, "status 503: no ready replica")] * 2 + [Outcome(TARGET, 0.0, 1.0, "reset")]
    found = row("kill", "kill", "web", outcomes, recovery_s=1.234)
    assert (found.requests, found.lost, found.recovery_s) == (103, 3, 1.23)
    assert found.reasons == ("2 x status 503: no ready replica", "1 x reset")
    assert (found.p50_ms, found.slowest_ms) == (51.0, 100.0)


def test_the_verdict_is_proven_only_when_nothing_was_lost_and_all_came_back() -> None:
    good = row("kill", "kill", "web", [Outcome(TARGET, 0.0, 0.01)] * 90, recovery_s=2.0)
    assert report(good).proven
    words = "100 requests over 1 disturbances in 9 s: none lost; the slowest recovery took 2.0 s"
    assert verdict(report(good)) == words
    bad = row("kill", "kill", "web", [Outcome(TARGET, 0.0, 0.01, "reset")], recovery_s=0.0)
    assert not report(good, bad).proven
    assert verdict(report(bad)).endswith("1 lost")
    stuck = row("kill", "kill", "web", [], recovery_s=0.0, problem="not as before within 180 s")
    assert not report(stuck).proven
    assert "1 did not come back" in verdict(report(stuck))
    assert all(len(line) == len(HEADER) for line in lines(report(good, bad, stuck)))


def test_load_is_counted_once_for_each_request_and_ends_with_its_context() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        enough = threading.Event()
        served = 0

        def serve() -> None:
            nonlocal served
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                    served += 1
                    if served >= 20:
                        enough.set()

        thread = threading.Thread(target=serve)
        thread.start()
        target = Target(service="web", path="/", host=f"localhost:{port}", address=("127.0.0.1", port))
        with Load([target], rate=1000) as load:
            assert enough.wait(30)
        outcomes = load.take()
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert len(outcomes) == served
    assert not [each.lost for each in outcomes if each.lost]


def test_what_does_not_answer_well_is_left_out_with_its_reason() -> None:
    good, left_out = sound([TARGET])
    assert good == []
    assert left_out[0].startswith("GET / of web: ")
