"""Requests drawn from the API's own OpenAPI document, right and wrong ones: no crash, no 5xx, nothing undeclared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.api.openapi import document
from tests.support.api import DOCUMENT, Answer, Plane, asked

OPERATIONS = [
    (path, method.upper(), operation)
    for path, methods in document()["paths"].items()
    for method, operation in methods.items()
]
NAMES = ("cart", "cart-r1", "app", "nobody", "", "..", "a/b", "%2e", "\N{SNOWMAN}", "x" * 300)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    made = Plane(tmp_path)
    made.happen("cart", message="it happened")
    made.close()  # streams end when they have said what there is
    yield made


@given(st.data())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=120, deadline=None
)
def test_no_request_is_answered_by_a_failure_or_by_what_is_not_declared(plane: Plane, data: st.DataObject) -> None:
    path, method, operation = data.draw(st.sampled_from(OPERATIONS))
    answer = asked(
        plane.app,
        method,
        target(data, path, operation),
        body(data, operation),
        headers=headers(data, operation),
    )
    assert 200 <= answer.status < 500, (answer.status, answer.body)
    check_declared(operation, answer)


def target(data: st.DataObject, path: str, operation: dict[str, Any]) -> str:
    query = {}
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            name = data.draw(st.sampled_from(NAMES) | st.text(min_size=1, max_size=8))
            path = path.replace("{name}", quote(name, safe="", errors="replace"))
        elif parameter["in"] == "query" and data.draw(st.booleans()):
            query[parameter["name"]] = data.draw(values(parameter["schema"]))
    if data.draw(st.integers(0, 9)) == 0:
        query[data.draw(st.text(max_size=5))] = "1"
    return f"{path}?{urlencode(query, errors='replace')}" if query else path


def values(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    """Of a parameter: fitting ones, those just beside the limits, and any text."""
    near = {-1, 0, 1, 10**30} | {
        schema[limit] + step for limit in ("minimum", "maximum") if limit in schema for step in (-1, 0, 1)
    }
    return st.sampled_from([*map(str, sorted(near)), "cart", "1.5", "\x00", ""]) | st.text(max_size=5)


def body(data: st.DataObject, operation: dict[str, Any]) -> bytes:
    """What the schema asks for, the same with something else in one place, or anything at all."""
    if "requestBody" not in operation:
        return b"" if data.draw(st.booleans()) else data.draw(st.binary(max_size=20))
    drawn = data.draw(st.integers(0, 4))
    if drawn == 0:
        return data.draw(st.binary(max_size=100))
    whole = {"app": json.loads(json.dumps(DOCUMENT)), "replicas": 2}
    # Some bodies take an app, some a number: each gets what the other does not, now and then.
    wanted = json.dumps(operation["requestBody"])
    value: Any = {key: part for key, part in whole.items() if (key in wanted.lower()) or drawn == 1}
    for _ in range(data.draw(st.integers(0, 2))):
        replace_one(data, value)
    return json.dumps(value, allow_nan=True).encode("utf-8", "surrogatepass")


def replace_one(data: st.DataObject, value: Any) -> None:
    """Goes down into it, some way, and puts anything there; or takes a key away."""
    while isinstance(value, dict | list) and value:
        key = data.draw(st.sampled_from(sorted(value))) if isinstance(value, dict) else len(value) - 1
        inner = value[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 2)) == 0:
            if isinstance(value, dict) and data.draw(st.booleans()):
                del value[key]
            else:
                value[key] = data.draw(anything)
            return
        value = inner


def headers(data: st.DataObject, operation: dict[str, Any]) -> dict[str, str]:
    plain = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)
    found = {
        parameter["name"]: data.draw(values(parameter["schema"])).encode("ascii", "replace").decode()
        for parameter in operation["parameters"]
        if parameter["in"] == "header" and data.draw(st.booleans())
    }
    if data.draw(st.booleans()):
        found["accept"] = data.draw(st.sampled_from(["text/event-stream", "application/x-ndjson", "*/*"]) | plain)
    return found


def check_declared(operation: dict[str, Any], answer: Answer) -> None:
    declared = operation["responses"].get(str(answer.status))
    media = answer.headers.get("content-type", "").partition(";")[0]
    if declared is not None and answer.status < 300:
        assert media in declared["content"], (answer.status, media)
        return
    assert media == "application/problem+json", (answer.status, media)
    problem = answer.json
    wanted = document()["components"]["schemas"]["Problem"]
    assert set(wanted["required"]) <= set(problem)
    assert problem["status"] == answer.status
    assert problem["detail"]
