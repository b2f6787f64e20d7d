"""Writes `docs/reference/app-file.md` from the models: `python -m shoal.spec.reference > ...`."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from typing import Any

from shoal.spec import dotenv, references, traffic
from shoal.spec.compose import MAX_BYTES, MAX_DEPTH, MAX_NODES
from shoal.spec.schema import json_schema

HEAD = """# The app file

`shoal.yaml` describes an app: its services, and the gateway in front of them. `shoal check` tells all that is wrong
with it, each with line and column. This page is written from the code (`shoal.spec.schema`).

```yaml
app: shop
services:
  product-service:
    run: shop.products:app
    port: 3001
    replicas: 3
  cart-service:
    run: shop.carts:app
    port: 3002
    calls: [product-service]
    env:
      PRODUCTS: ${product-service.url}
gateway:
  port: 8080
  routes:
    /products: product-service
    /carts: cart-service
```

The smallest app is `services: {hello: {run: hello:app, port: 8080}}`, and `shoal up hello:app` needs no file at all.
"""

TRAFFIC = """
### Traffic

How requests are treated. These keys are a service's, for all its callers; those of `defaults`, for all services; and
those of an edge, for the calls of one service to another, which win:

```yaml
services:
  cart-service:
    run: shop.carts:app
    port: 3002
    calls:
      product-service: {timeout: 500ms, retries: 1}
      user-service:
```

A change takes effect at once and replaces no replica. What is in force, and why, is in `shoal explain`. See also
[Time-outs, retries and limits](../howto/traffic.md).

"""

COMMANDS = """
## How a command is run

- A **list** is a program and its arguments. No shell is involved, so `$NAME` is filled in by Shoal (below).
- **Text** is given to `/bin/sh -c` as it is. `$PORT` and every other variable is the shell's to expand, when the
  replica starts; only `${port}` and `${<service>.url}`, which no shell could mean, are filled in by Shoal. A single
  command takes the shell's place, so that it gets the signals itself; where there is more than one, write `exec` before
  the last: `cd site && exec node server.js`. Shoal adds no `exec` by itself: before `a && b` it would drop `b`.
- The program should listen on `$PORT`, on 127.0.0.1. Shoal chooses the number, another one for each replica.
"""

SHELL = """
A service does not inherit the variables of the shell that runs `shoal up`: only those that say where things are
(`PATH`, `HOME`, the proxy settings and the like). Pass another one on by its name: `env: {API_KEY: "${API_KEY}"}`.
"""

ENV_FILES = """
## Files of variables

Later wins: `env_file` of `defaults`, `env` of `defaults`, `env_file` of the service, its `env`. The files are read by
`shoal up` and `shoal check`; one that changed counts at the next `shoal up`, and gives the service a new revision.

"""

NAMES = """
## Names

A service's name is a DNS-1123 label: lower case letters, digits and `-`, at most 63 characters, not at the ends. It
becomes a host name and the start of variables (`product-service` -> `PRODUCT_SERVICE_URL`), so it cannot be a number,
`localhost` or the machine's own name; `envoy`, `daemon` and `keeper` are parts of Shoal.

## YAML

YAML 1.2's core schema: only `true` and `false` are booleans, `yes` and `3000:3000` are text. Keys are unique; unknown
keys are errors. Anchors, aliases and `<<` work. Within `{ }` and `[ ]`, a value with `${...}` needs quotes.
"""


def markdown() -> str:
    """The whole page."""
    schema = json_schema()
    definitions = schema["$defs"]
    parts = [HEAD, "\n## Top level\n\n", _table(schema)]
    parts += ["\n## `services.<name>`\n\n", definitions["ServiceFile"]["description"], "\n\n"]
    parts += [_table(definitions["ServiceFile"], without=traffic.KEYS)]
    parts += [TRAFFIC, _table(definitions["EdgeFile"])]
    nested = ((key, model.__name__) for key, model in traffic.MODELS.items())
    own = (
        ("ports.<name>", "PortFile"),
        ("health", "HealthFile"),
        ("external", "ExternalFile"),
        ("rollout", "RolloutFile"),
        ("static", "StaticFile"),
        ("files.<path>", "GivenFileFile"),
    )
    for heading, kind in (*own, *nested):
        also = "`, `startup`, `liveness" if kind == "HealthFile" else ""
        parts += [f"\n### `{heading}{also}`\n\n", definitions[kind]["description"], "\n\n", _table(definitions[kind])]
    parts += ["\n## `gateway`\n\n", _table(definitions["GatewayFile"])]
    parts += ["\n### `routes.<path>`\n\n", definitions["RouteFile"]["description"], "\n\n"]
    parts += [_table(definitions["RouteFile"])]
    parts += ["\n## `jobs.<name>`\n\n", definitions["JobFile"]["description"], "\n\n", _table(definitions["JobFile"])]
    parts += ["\n## `defaults`\n\n", definitions["DefaultsFile"]["description"], "\n\n"]
    parts += [_table(definitions["DefaultsFile"], without=traffic.KEYS)]
    parts += ["\nBeside these all of [the traffic keys](#traffic), for those services that they mean something for.\n"]
    parts += [
        COMMANDS,
        "\n## References\n\nIn `env`, and in a `command` that is a list:\n\n",
        _references(),
        SHELL,
        ENV_FILES,
        (dotenv.__doc__ or "").partition("\n\n")[2],
        NAMES,
    ]
    parts += [
        f"At most {MAX_BYTES // 1_000_000} MB, {MAX_DEPTH} levels, and {MAX_NODES:,} values with aliases written out.\n"
    ]
    return "".join(parts)


def _table(schema: dict[str, Any], without: Collection[str] = ()) -> str:
    rows = ["| key | type | what it means |\n|---|---|---|\n"]
    for key, entry in schema["properties"].items():
        if key in without:
            continue
        text = entry.get("description", "")
        if examples := entry.get("examples"):
            shown = ", ".join(f"`{_flow(example)}`" for example in examples)
            text += f" Example: {shown}."
        rows.append(f"| `{key}` | {_type(entry)} | {text} |\n")
    return "".join(rows)


def _type(entry: dict[str, Any]) -> str:
    if "enum" in entry:
        return " or ".join(f"`{value}`" for value in entry["enum"])
    if "anyOf" in entry:
        return " or ".join(_type(option) for option in entry["anyOf"])
    if "$ref" in entry:
        return "mapping"
    if "type" not in entry:
        return "anything"
    kind = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "array": "list",
        "object": "mapping",
    }
    word = kind[entry["type"]]
    if "maximum" in entry:
        word += f", {entry['minimum']} to {entry['maximum']}"
    return f"{word}, default {entry['default']}" if isinstance(entry.get("default"), int | str) else word


def _flow(value: object) -> str:
    """One line of YAML, as people write it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_quote(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_quote(item) for item in value) + "]"
    return str(value)


def _quote(value: object) -> str:
    if isinstance(value, dict | list):
        return _flow(value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return json.dumps(text) if any(c in text for c in "{}[],:") else text


def _references() -> str:
    return (references.__doc__ or "").partition("\n\n")[2]


if __name__ == "__main__":
    sys.stdout.write(markdown())
