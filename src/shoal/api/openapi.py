"""The OpenAPI 3.1 document, made from the table of operations and the dataclasses that it names."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from shoal import __version__
from shoal.api.operations import JSON, OPERATIONS, PROBLEM, Operation, Parameter
from shoal.errors import NotFoundError, ShoalError, UsageError
from shoal.spec import wire

_REFERENCE = "#/components/schemas/{model}"

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "What went wrong, whose it is, and the way out (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code", "way_out", "lines"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "`urn:shoal:error:<code>`"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What, and whose."},
        "code": {"type": "string", "description": "Stable, for machines."},
        "way_out": {"type": "string", "description": "What to do now; may be empty."},
        "lines": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Worth reading: each flaw, a log's tail.",
        },
    },
}

_KINDS: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "number": {"type": "integer"},
    "flag": {"type": "integer", "enum": [0, 1]},
}


@cache
def document() -> dict[str, Any]:
    """Plain JSON. Do not change it."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Shoal",
            "version": __version__,
            "summary": "The control plane of one app, on its Unix socket.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The socket `api.sock`, which only its owner can open."}],
        "paths": paths,
        "components": {
            "schemas": schemas.defined() | {"Problem": _PROBLEM},
            "responses": {
                "Problem": {
                    "description": "Any other failure.",
                    "content": {PROBLEM: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}},
                }
            },
        },
    }


class _Schemas:
    """The schemas of the types used, each under one name."""

    def __init__(self) -> None:
        inputs: list[tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = []
        for operation in OPERATIONS:
            if operation.body is not None:
                inputs.append((operation.body, "validation", wire.adapter(operation.body)))
            kinds = {operation.answers, operation.item} - {None}
            inputs += [(kind, "serialization", wire.adapter(kind)) for kind in kinds]
        self._by_type, common = TypeAdapter.json_schemas(inputs, ref_template=_REFERENCE)
        self._defined: dict[str, Any] = common.get("$defs", {})
        self._types = {kind.__name__: kind for module in _modules() for kind in vars(module).values() if _own(kind)}

    def of(self, kind: Any, mode: JsonSchemaMode) -> dict[str, Any]:
        return dict(self._by_type[(kind, mode)])

    def defined(self) -> dict[str, Any]:
        """With the docstrings below the fields as their descriptions."""
        described = {}
        for name, schema in sorted(self._defined.items()):
            texts = _field_docs(self._types[name]) if name in self._types else {}
            properties = {
                field: {key: value for key, value in content.items() if key != "title"}
                | ({"description": texts[field]} if field in texts else {})
                for field, content in schema.get("properties", {}).items()
            }
            described[name] = schema | ({"properties": properties} if properties else {})
        return described


def _operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    success: dict[str, Any] = {"type": "object"}
    if operation.answers is not None:
        success = schemas.of(operation.answers, "serialization")
    content = {
        media: {"schema": success if media == JSON else schemas.of(operation.item, "serialization")}
        for media in operation.answer_media
    }
    problems: tuple[type[ShoalError], ...] = (UsageError, *operation.problems)
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": {
            str(operation.status): {
                "description": "Done." if operation.status == 200 else "Begun.",
                "content": content,
            },
            **{str(error.status): _problem(error) for error in problems},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": schemas.of(operation.body, "validation")}},
        }
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if "{name}" in operation.path:
        found.append({"name": "name", "in": "path", "required": True, "schema": {"type": "string"}})
    return found + [_parameter(parameter) for parameter in operation.parameters]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    limits = {"minimum": parameter.least, "maximum": parameter.most, "default": parameter.default}
    schema = _KINDS[parameter.kind] | {key: value for key, value in limits.items() if value is not None}
    return {"name": parameter.name, "in": parameter.where, "description": parameter.summary, "schema": schema}


def _problem(error: type[ShoalError]) -> dict[str, Any]:
    words: dict[type[ShoalError], str] = {
        UsageError: "The request is wrong.",
        NotFoundError: "There is no such service.",
    }
    text = words.get(error) or inspect.cleandoc(error.__doc__ or "").partition("\n")[0]
    return {
        "description": f"`{error.code}`: {text}",
        "content": {PROBLEM: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}},
    }


def _modules() -> list[Any]:
    return [
        sys.modules[name]
        for name in (
            "shoal.model.status",
            "shoal.model.app",
            "shoal.model.journal",
            "shoal.model.lag",
            "shoal.api.operations",
        )
    ]


def _own(kind: object) -> bool:
    return isinstance(kind, type) and kind.__module__.startswith("shoal.")


def _field_docs(kind: type) -> dict[str, str]:
    """The string below each field of a class, which Python itself throws away."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                found[name] = " ".join(inspect.cleandoc(words).split())
            case _:
                pass
    return found
