"""Envoy itself finds nothing wrong with what any app compiles to."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shoal.mesh.compile import MeshOptions, compile_app
from shoal.model.app import App, Network
from shoal.xds.envoy import find_envoy
from tests.support.any_app import any_apps
from tests.support.envoy import edge_map
from tests.support.static_config import static_config

pytestmark = pytest.mark.integration

TOGETHER = 12
"""Apps that one Envoy looks at: starting it takes far longer than looking."""


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # a smaller example would be looked for by thousands of Envoys
)
@given(st.lists(any_apps(), min_size=TOGETHER, max_size=TOGETHER))
def test_envoy_accepts_every_snapshot_that_is_built(apps: list[App]) -> None:
    config: dict[str, Any] = {}
    for number, app in enumerate(apps):
        for side in Network:
            options = MeshOptions(mesh_socket=f"/run/{number}/mesh.sock", doors=f"/run/{number}")
            compiled = compile_app(app, edge_map(app, 1 + number), options, side)
            add(
                config, json.loads(static_config(compiled)), f"{number}-{side}", number * len(Network) + (side == "own")
            )
    with tempfile.TemporaryDirectory(prefix="shoal-validate-") as folder:
        path = Path(folder) / "envoy.json"
        path.write_text(json.dumps(config))
        done = subprocess.run(
            [str(find_envoy()), "--mode", "validate", "--config-path", str(path), "--log-level", "warn"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr


def add(config: dict[str, Any], more: dict[str, Any], mark: str, number: int) -> None:
    """Puts one app's configuration beside the others', with names and addresses of its own."""
    if not config:
        config |= more | {"static_resources": {"clusters": [more["static_resources"]["clusters"][0]], "listeners": []}}
    resources = config["static_resources"]
    for cluster in more["static_resources"]["clusters"][1:]:
        resources["clusters"].append(cluster | {"name": f"{mark}/{cluster['name']}"})
    for listener in more["static_resources"]["listeners"]:
        marked = _marked(listener, mark)
        where = marked["address"].get("socket_address")
        if where is not None and where["address"] in ("127.0.0.1", "::1"):
            where["address"] = f"127.0.{number}.1" if "." in where["address"] else f"::{number + 2:x}"
        resources["listeners"].append(marked | {"name": f"{mark}/{listener['name']}"})


def _marked(node: Any, mark: str) -> Any:
    """With every cluster that it leads to called as `add` calls it."""
    if isinstance(node, list):
        return [_marked(item, mark) for item in node]
    if not isinstance(node, Mapping):
        return node
    return {
        key: f"{mark}/{value}" if key == "cluster" and isinstance(value, str) else _marked(value, mark)
        for key, value in node.items()
    }
