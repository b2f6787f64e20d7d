"""The OpenAPI document: well formed, complete, and true of what the API answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.api.handlers import HANDLERS
from shoal.api.openapi import document
from shoal.api.operations import OPERATIONS
from shoal.api.reference import markdown
from tests.support.api import DOCUMENT, Plane, asked

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "http-api.md"


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(reference: str) -> Any:
    node: Any = document()
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_every_operation_has_one_handler() -> None:
    assert {operation.id for operation in OPERATIONS} == set(HANDLERS)
    assert len(OPERATIONS) == len(HANDLERS)


def test_the_document_has_the_shape_of_openapi_3_1() -> None:
    api = document()
    assert api["openapi"] == "3.1.0"
    assert set(api) == {"openapi", "info", "servers", "paths", "components"}
    assert {"title", "version"} <= set(api["info"])
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids)) == len(OPERATIONS)
    for path, method, operation in operations():
        assert method in ("get", "post")
        assert path.startswith("/v1/") or path == "/metrics"  # where Prometheus looks
        in_path = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
        assert in_path == re.findall(r"\{(\w+)\}", path)
        for parameter in operation["parameters"]:
            assert parameter["in"] in ("path", "query", "header")
            assert parameter.get("required", False) == (parameter["in"] == "path")
            assert parameter["schema"]["type"] in ("string", "integer")
        statuses = list(operation["responses"])
        assert sum(status.startswith("2") for status in statuses) == 1
        assert "default" in statuses
        for status, response in operation["responses"].items():
            if status != "default":
                assert response["description"]
                assert all("schema" in content for content in response["content"].values())
        if method == "get":
            assert "requestBody" not in operation


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    found = set(references(document()))
    for reference in found:
        assert resolve(reference)
    assert found >= {f"#/components/schemas/{name}" for name in document()["components"]["schemas"]}


def test_problems_are_declared_as_problem_documents() -> None:
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            if status.startswith(("4", "5")):
                assert list(response["content"]) == ["application/problem+json"]


def test_fields_are_described_by_their_docstrings() -> None:
    schemas = document()["components"]["schemas"]
    assert schemas["JournalEntry"]["properties"]["sequence"]["description"].startswith("Grows by one")
    assert schemas["AppStatus"]["properties"]["generation"]["description"] == "Counts deploys; 0: nothing deployed yet."


def check(schema: dict[str, Any], value: Any, where: str) -> None:
    """The part of JSON Schema that the document uses."""
    if "$ref" in schema:
        check(resolve(schema["$ref"]), value, where)
    elif "anyOf" in schema:
        errors = []
        for option in schema["anyOf"]:
            try:
                check(option, value, where)
                return
            except AssertionError as error:
                errors.append(error)
        raise AssertionError(f"{where}: none of {errors}")
    elif "enum" in schema:
        assert value in schema["enum"], where
    elif schema.get("type") == "object":
        assert isinstance(value, dict), where
        assert set(schema.get("required", [])) <= set(value), where
        properties = schema.get("properties", {})
        for name, inner in value.items():
            if name in properties:
                check(properties[name], inner, f"{where}.{name}")
            elif isinstance(schema.get("additionalProperties"), dict):
                check(schema["additionalProperties"], inner, f"{where}.{name}")
            else:
                assert schema.get("additionalProperties") is True, f"{where}.{name} is not described"
    elif schema.get("type") == "array":
        assert isinstance(value, list), where
        for index, inner in enumerate(value):
            check(
                schema["prefixItems"][index] if "prefixItems" in schema else schema["items"], inner, f"{where}.{index}"
            )
    else:
        kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
        assert isinstance(value, kinds[schema["type"]]), f"{where}: {value!r} is no {schema['type']}"


@pytest.mark.parametrize(
    ("operation_id", "method", "target", "body"),
    [
        ("getApp", "GET", "/v1/app", b""),
        ("deploy", "POST", "/v1/deploy", {"app": DOCUMENT}),
        ("down", "POST", "/v1/down", {"now": True}),
        ("explain", "GET", "/v1/services/cart", b""),
        ("scale", "POST", "/v1/services/cart/scale", {"replicas": 2}),
        ("restart", "POST", "/v1/services/cart/restart", b""),
        ("rollback", "POST", "/v1/services/cart/rollback", {"to": 1}),
        ("diff", "POST", "/v1/services/cart/diff", {"before": 1, "after": 2}),
        ("revisions", "GET", "/v1/services/cart/revisions", b""),
        ("execContext", "GET", "/v1/services/cart/exec", b""),
        ("events", "GET", "/v1/events", b""),
    ],
)
def test_bodies_and_answers_are_as_described(
    tmp_path: Path, operation_id: str, method: str, target: str, body: Any
) -> None:
    plane = Plane(tmp_path)
    plane.happen()
    (operation,) = [operation for _, _, operation in operations() if operation["operationId"] == operation_id]
    answer = asked(plane.app, method, target, body)
    described = operation["responses"][str(answer.status)]["content"]["application/json"]["schema"]
    check(described, answer.json, operation_id)
    if body:
        check(operation["requestBody"]["content"]["application/json"]["schema"], body, f"{operation_id}'s body")


def test_problems_are_as_described(tmp_path: Path) -> None:
    answer = asked(Plane(tmp_path).app, "GET", "/v1/services/nobody")
    check(resolve("#/components/schemas/Problem"), answer.json, "problem")


def test_the_document_itself_is_served(tmp_path: Path) -> None:
    assert asked(Plane(tmp_path).app, "GET", "/v1/openapi.json").json == document()


def test_the_reference_is_the_one_made_from_the_code() -> None:
    assert REFERENCE.read_text() == markdown(), (
        "make it again: .venv/bin/python -m shoal.api.reference > docs/reference/http-api.md"
    )
