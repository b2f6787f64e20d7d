"""`docs/reference/http-api.md`, made from the OpenAPI document.

`python -m shoal.api.reference > docs/reference/http-api.md` writes it; a test compares the file with what this gives.
"""

from __future__ import annotations

import sys
from typing import Any

from shoal.api.openapi import document
from shoal.api.operations import JSON, LINES, STREAM

_HEAD = """\
# The HTTP API

Made from the code by `python -m shoal.api.reference`; the same as OpenAPI 3.1 is at `GET /v1/openapi.json`.

The daemon of an app serves it on the Unix socket `api.sock` (0600, in a 0700 folder), so that only the user who started
the app can talk to it: it can run commands, and has no other door.

```
SOCKET=$(shoal status --json | jq -r .socket)
curl --unix-socket "$SOCKET" http://localhost/v1/app
```

- Times are seconds of the epoch. Ignore unknown fields of an answer; unknown fields of a request are refused.
- Every failure is an `application/problem+json` document ([Problem](#problem)) with a stable `code` and the `way_out`.
- Event streams and followed logs send a comment or an empty line every 15 s. They end with the daemon; ask again to go
  on without a gap: events by `Last-Event-ID`, logs by `since`.
"""


_AS = {JSON: "", LINES: f" each, as `{LINES}`", STREAM: f" each, as `{STREAM}`"}


def markdown() -> str:
    api = document()
    parts = [_HEAD, "## Operations\n"]
    for path, methods in api["paths"].items():
        parts += [_operation(method.upper(), path, operation) for method, operation in methods.items()]
    parts.append("## Schemas\n")
    parts += [_schema(name, schema) for name, schema in sorted(api["components"]["schemas"].items())]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    lines = [f"### {method} {path}", "", f"`{operation['operationId']}`: {operation['summary']}", ""]
    if "requestBody" in operation:
        lines.append(f"- body: {_contents(operation['requestBody'])}")
    for parameter in operation["parameters"]:
        if parameter["in"] != "path":
            where = "header " if parameter["in"] == "header" else ""
            lines.append(f"- {where}`{parameter['name']}` ({_type(parameter['schema'])}): {parameter['description']}")
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            lines.append(f"- {status}: {_contents(response)}")
        elif status != "default":
            lines.append(f"- {status}: {response['description']}")
    return "\n".join([*lines, ""])


def _contents(holder: dict[str, Any]) -> str:
    return "; ".join(
        f"{_type(content['schema'])}{_AS.get(media, f', as `{media}`')}" for media, content in holder["content"].items()
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    lines = [f"### {name}", ""]
    text = " ".join(schema.get("description", "").split())
    # The signature, which Python gives a dataclass without a docstring, says nothing that the table does not.
    if text and not text.startswith(f"{name}("):
        lines += [text, ""]
    if "enum" in schema:
        lines += [", ".join(f"`{value}`" for value in schema["enum"]), ""]
    elif schema.get("properties"):
        lines += ["| field | type | |", "|---|---|---|"]
        required = schema.get("required", [])
        for field, content in schema["properties"].items():
            optional = "" if field in required else " (optional)"
            lines.append(f"| `{field}` | {_type(content)}{optional} | {_cell(content.get('description', ''))} |")
        lines.append("")
    return "\n".join(lines)


def _type(schema: dict[str, Any]) -> str:
    match schema:
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"anyOf": options}:
            return " or ".join(_type(option) for option in options)
        case {"enum": values}:
            text = " or ".join(str(value) for value in values)
        case {"type": "array", "prefixItems": items}:
            return "[" + ", ".join(_type(item) for item in items) + "]"
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"object of {_type(values)}"
        case {"type": kind}:
            text = str(kind)
        case _:
            return "anything"
    limits = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    default = [f"default {schema['default']}"] if schema.get("default") is not None else []
    return ", ".join([" ".join([text, *limits]), *default])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(markdown())
