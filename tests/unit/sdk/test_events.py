"""CloudEvents, the channels that they go to, and what a request carries with it."""

from __future__ import annotations

import json

import pytest

from shoal.sdk import context, deadline, events

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_an_event_is_a_cloud_event_and_comes_back_as_it_was() -> None:
    with context.serving(context.of_headers("", TRACE, "a=b")):
        event = events.new("product-service", "product.changed", "7", {"price_minor": 500})
    fields = json.loads(event.to_json())
    assert fields["specversion"] == "1.0"
    assert fields["traceparent"] == TRACE
    assert fields["data"] == {"price_minor": 500}
    assert events.Event.from_json(event.to_json()) == event
    assert event.channel == "events.product-service.product.changed"


@pytest.mark.parametrize(
    ("source", "kind", "data"),
    [
        ("a.b", "x", None),
        ("", "x", None),
        ("a", "x..y", None),
        ("a", "x y", None),
        ("a", "*", None),
        ("a", "x", {1, 2}),
    ],
)
def test_what_cannot_be_published_is_refused_where_it_is_made(source: str, kind: str, data: object) -> None:
    with pytest.raises(ValueError, match=r"source|type|data"):
        events.new(source, kind, "1", data)


def test_what_nats_would_never_take_is_refused_where_it_is_made() -> None:
    assert events.new("a", "x", "1", "y" * 900_000)
    with pytest.raises(ValueError, match=r"an event of x has 1\d+ bytes"):
        events.new("a", "x", "1", "y" * 1_000_000)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"id": 1, "source": "a", "type": "b"}', b"\xff", b"null"])
def test_what_is_no_event_is_called_so(raw: bytes) -> None:
    with pytest.raises(events.MalformedError):
        events.Event.from_json(raw)


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ("product.changed", True),
        ("product.*", True),
        ("*.changed", True),
        (">", True),
        ("product.>", True),
        ("product", False),
        ("product.changed.>", False),
        ("*", False),
    ],
)
def test_a_pattern_takes_what_nats_would_send(wanted: str, matches: bool) -> None:
    assert events.matches(events.pattern("shop", wanted), "events.shop.product.changed") is matches


@pytest.mark.parametrize("wanted", ["", "a..b", ">.a", "a b", "a.>.b"])
def test_a_pattern_that_nats_would_refuse_is_refused(wanted: str) -> None:
    with pytest.raises(ValueError, match="cannot subscribe"):
        events.pattern("shop", wanted)


def test_a_call_hands_on_what_is_left_of_the_deadline_and_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with context.serving(context.of_headers("2000", TRACE)):
        now = 100.5
        assert context.headers() == {"x-shoal-deadline": "1500", "traceparent": TRACE}
        assert deadline.remaining_s(5.0) == 1.5
        assert deadline.remaining_s(0.2) == 0.2
        with context.within(1.0):
            assert context.headers()["x-shoal-deadline"] == "1000"
        now = 103.0
        assert context.headers()["x-shoal-deadline"] == "0"
        with pytest.raises(deadline.DeadlineError):
            deadline.remaining_s(5.0)
    assert context.headers() == {}
    assert deadline.remaining_s(5.0) == 5.0


@pytest.mark.parametrize(
    ("said", "trace"), [("", ""), ("-1", "x"), ("1e9", TRACE[:-1]), ("\uff19", TRACE.upper()), ("9" * 11, "\n" + TRACE)]
)
def test_malformed_headers_say_nothing(said: str, trace: str) -> None:
    assert context.of_headers(said, trace) == context.Context()
