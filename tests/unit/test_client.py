"""The client's parts: decoding, resuming, errors. Against the daemon it is tested in tests/integration."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shoal.client import http
from shoal.client.decode import decode
from shoal.client.failures import cut_off, from_problem
from shoal.client.http import Client, _followed
from shoal.client.resume import SeenLines, server_sent
from shoal.errors import ConflictError, NotFoundError, NotRunningError, ShoalError, UsageError
from shoal.model.journal import JournalEntry
from shoal.model.status import AppStatus, Deployment, ExecContext, Explanation, Health, LogLine, ServiceStatus
from shoal.spec import wire
from tests.support.api import EXPLANATION, STATUS

# Decoding

KINDS = [AppStatus, Deployment, Explanation, ExecContext, LogLine, ServiceStatus]


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
@settings(max_examples=20, deadline=None)
def test_what_the_daemon_sends_comes_back_as_the_same_value(kind: type[Any], data: st.DataObject) -> None:
    value = data.draw(st.builds(kind))
    try:
        json.dumps(asdict(value), allow_nan=False)
    except ValueError:
        assume(False)  # a time that is not a number does not occur
    assert decode(kind, json.loads(wire.encode(value))) == value


def test_fields_of_a_later_version_are_left_out() -> None:
    plain = wire.to_plain(STATUS) | {"mood": "good"}
    plain["services"][0]["cpu"] = [1, 2]
    assert decode(AppStatus, plain) == STATUS


def test_fields_with_a_default_may_be_missing() -> None:
    plain = wire.to_plain(STATUS)
    del plain["proxy"]["rejected"]
    assert decode(AppStatus, plain).proxy.rejected == {}


def test_an_entrys_data_is_any_json() -> None:
    plain = {"sequence": 1, "at": 2, "kind": "K", "subject": "s", "message": "m", "data": {"a": [1, None, {"b": True}]}}
    entry = decode(JournalEntry, plain)
    assert (entry.at, entry.data) == (2.0, {"a": [1, None, {"b": True}]})


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("services.0.health", "dreaming", "AppStatus.services.0.health: 'dreaming' is no Health"),
        ("services.0.replicas.1.pid", "7", "AppStatus.services.0.replicas.1.pid: '7' is not a whole number"),
        ("services.0.ready", 1.5, "AppStatus.services.0.ready: 1.5 is not a whole number"),
        ("services.0.ready", True, "AppStatus.services.0.ready: True is not a whole number"),
        ("services.0.replicas.0.since", "now", "AppStatus.services.0.replicas.0.since: 'now' is not a number"),
        ("services", {}, "AppStatus.services: {} is not a list"),
        ("proxy.rejected", [], "AppStatus.proxy.rejected: [] is not an object"),
        ("proxy.rejected", {"x": 1}, "AppStatus.proxy.rejected.x: 1 is not a text"),
        ("gateway", 3, "AppStatus.gateway: 3 is not an object"),
        ("app", None, "AppStatus.app: None is not a text"),
    ],
)
def test_an_answer_that_is_not_understood_names_the_field(path: str, value: object, words: str) -> None:
    plain = wire.to_plain(STATUS)
    *parts, last = path.split(".")
    place = plain
    for part in parts:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[last] = value
    with pytest.raises(ShoalError, match="different versions") as error:
        decode(AppStatus, plain)
    assert error.value.message == f"the daemon's answer is not understood: {words}"


def test_a_missing_field_is_named() -> None:
    plain = wire.to_plain(EXPLANATION)
    del plain["service"]["replicas"][0]["state"]
    with pytest.raises(ShoalError, match=r"Explanation\.service\.replicas\.0: 'state' is missing"):
        decode(Explanation, plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    many: list[Health | None]
    flag: bool


def test_other_shapes_of_types_are_decoded() -> None:
    assert decode(Odd, {"many": ["ready", None], "flag": False}) == Odd(many=[Health.READY, None], flag=False)
    with pytest.raises(ShoalError, match="flag: 1 is not true or false"):
        decode(Odd, {"many": [], "flag": 1})


# Errors


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (409, "conflict", ConflictError),
        (404, "not-found", NotFoundError),
        (400, "usage", UsageError),
        (422, "of-a-later-version", UsageError),
        (500, "of-a-later-version", ShoalError),
        (500, "error", ShoalError),
    ],
)
def test_a_problem_becomes_the_error_of_its_code(status: int, code: str, kind: type[ShoalError]) -> None:
    body = {"detail": "what", "code": code, "way_out": "the way", "lines": ["a", "b"], "more": 1}
    error = from_problem(status, json.dumps(body).encode())
    assert type(error) is kind
    assert (error.message, error.way_out, error.detail) == ("what", "the way", "a\nb")
    assert str(error) == "what; the way"


def test_an_error_whose_class_makes_its_own_message_is_rebuilt_too() -> None:
    class PickyError(UsageError):
        code = "picky"

        def __init__(self, first: int, second: int) -> None:
            super().__init__(f"{first + second}")

    error = from_problem(400, b'{"detail": "what", "code": "picky"}')
    assert (type(error), error.message, error.way_out, error.detail) == (PickyError, "what", "", "")


@pytest.mark.parametrize("body", [b"Exceeded concurrency limit", b"", b"[]", b"null", b'{"detail": 3}', b"\xff"])
def test_an_answer_that_is_no_problem_document_is_told_as_it_is(body: bytes) -> None:
    error = from_problem(503, body)
    assert error.message.startswith("the daemon answered 503: ")


def test_without_a_socket_the_app_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="the app is not running; start it: shoal up"):
        Client(tmp_path / "api.sock").status()
    for stream in (Client(tmp_path / "api.sock").logs("cart", follow=True), Client(tmp_path / "x").events(follow=True)):
        with pytest.raises(NotRunningError, match="the app is not running"):
            next(stream)


# Server-sent events


def test_events_are_taken_out_of_their_lines() -> None:
    text = (
        b'retry: 500\n\nid: 1\ndata: {"a": 1}\n\n:keepalive\n\ndata:x\ndata: y\n\nevent: error\ndata: {}\n\ndata: cut'
    )
    assert list(server_sent(text.split(b"\n"))) == [
        ("message", b'{"a": 1}'),
        ("", b""),
        ("message", b"x\ny"),
        ("error", b"{}"),
    ]


# Going on with logs


def line(replica: str, at: int, text: str = "") -> LogLine:
    return LogLine(replica=replica, at=f"{at:02d}", text=text)


def test_lines_come_again_from_the_oldest_of_the_newest() -> None:
    seen = SeenLines()
    assert seen.rewind() == ""
    for entry in [line("a", 1), line("b", 2), line("a", 3)]:
        assert seen.is_new(entry)
    assert seen.rewind() == "02"


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), max_size=30),
    st.lists(st.integers(0, 30), max_size=3),
    st.booleans(),
)
def test_each_line_is_given_out_once_however_often_the_connection_breaks(
    steps: list[tuple[str, int]], breaks: list[int], unstamped: bool
) -> None:
    at = 0
    written: list[LogLine] = []
    for number, (replica, pause) in enumerate(steps):
        at += pause
        written.append(line(replica, at, str(number)))
    seen = SeenLines()
    got: list[LogLine] = []
    for cut in [*sorted(breaks), len(written)]:
        since = seen.rewind()
        got += [entry for entry in written[:cut] if entry.at >= since and seen.is_new(entry)]
    assert got == written


# Connecting again


class Script:
    """A connection for each call: what it yields, and the error that it ends with."""

    def __init__(self, *connections: tuple[list[str | None], Exception | None]) -> None:
        self.connections = list(connections)
        self.asked: list[bool] = []

    def __call__(self, again: bool) -> Iterator[str | None]:
        self.asked.append(again)
        items, error = self.connections.pop(0)
        yield from items
        if error is not None:
            raise error


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes only by waiting."""
    passed: list[float] = []
    monkeypatch.setattr(http.time, "sleep", passed.append)
    monkeypatch.setattr(http.time, "monotonic", lambda: 1000.0 + sum(passed))
    return passed


def test_a_broken_stream_goes_on_with_the_next_connection(waits: list[float]) -> None:
    gone = NotRunningError("no socket")
    script = Script(
        ([None, "a", None], cut_off()),
        ([], gone),
        ([], gone),
        ([None, "b"], None),
        ([None], None),
        ([], gone),
        *[([], gone)] * 200,
    )
    got: list[str] = []
    with pytest.raises(NotRunningError, match="no socket"):
        got.extend(_followed(script, 10.0))
    assert got == ["a", "b"]
    assert script.asked[:2] == [False, True]
    assert 10.0 <= sum(waits) <= 11.0


def test_the_first_connection_must_succeed(waits: list[float]) -> None:
    script = Script(([], NotRunningError("no socket")))
    with pytest.raises(NotRunningError, match="no socket"):
        list(_followed(script, 10.0))
    assert waits == []


def test_an_error_of_the_daemon_ends_the_stream_at_once(waits: list[float]) -> None:
    script = Script(([None, "a"], None), ([], NotFoundError("no service 'a'")))
    with pytest.raises(NotFoundError):
        list(_followed(script, 10.0))


def test_without_patience_the_end_of_the_stream_is_the_end(waits: list[float]) -> None:
    script = Script(([None, "a"], None))
    with pytest.raises(NotRunningError, match="the daemon ended"):
        list(_followed(script, 0.0))
    assert waits == []


# Weight


def test_the_client_imports_nothing_heavy() -> None:
    heavy = ["pydantic", "asyncio", "starlette", "uvicorn", "yaml", "rich", "shoal.spec", "shoal.ports"]
    code = f"import sys, shoal.client.http; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
