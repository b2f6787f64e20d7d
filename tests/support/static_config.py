"""Envoy resources as a start configuration without a control plane, for `envoy --mode validate`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from shoal.mesh.denial import CONTROL_CLUSTER
from shoal.mesh.snapshot import CLUSTER, LISTENER, ROUTES, Message
from shoal.xds.envoy import bootstrap


def plain(message: Message) -> dict[str, Any]:
    """As the JSON that people write: the fields' own names."""
    found: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return found


def static_config(resources: Mapping[str, Mapping[str, Message]]) -> str:
    """The same clusters, listeners and routes, with each listener's routes inside it and no replicas."""
    config = json.loads(bootstrap(node="check", cluster="check", admin_socket=Path("/a"), xds_socket=Path("/x")))
    del config["dynamic_resources"], config["admin"]
    assert [cluster["name"] for cluster in config["static_resources"]["clusters"]] == [CONTROL_CLUSTER]
    config["static_resources"]["clusters"] += map(_with_own_endpoints, map(plain, resources[CLUSTER].values()))
    routes = {name: plain(message) for name, message in resources[ROUTES].items()}
    config["static_resources"]["listeners"] = [
        _with_own_routes(plain(listener), routes) for listener in resources[LISTENER].values()
    ]
    return json.dumps(config)


def _with_own_endpoints(cluster: dict[str, Any]) -> dict[str, Any]:
    if cluster.pop("eds_cluster_config", None) is not None:
        cluster["type"] = "STATIC"
        cluster["load_assignment"] = {"cluster_name": cluster["name"]}
    return cluster


def _with_own_routes(listener: dict[str, Any], routes: Mapping[str, Any]) -> dict[str, Any]:
    for chain in listener["filter_chains"]:
        for network_filter in chain.get("filters", []):
            manager = network_filter["typed_config"]
            if "rds" in manager:
                manager["route_config"] = routes[manager.pop("rds")["route_config_name"]]
    return listener
