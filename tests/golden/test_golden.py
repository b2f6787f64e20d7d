"""What an app becomes, kept in readable files, and checked by Envoy itself.

After a change that is meant: `UPDATE_GOLDEN=1 pytest tests/golden`, and read the difference.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from shoal.mesh.compile import MeshOptions, compile_app
from shoal.mesh.endpoints import Endpoint, assignment
from shoal.mesh.snapshot import Message
from shoal.model.app import App, Command, External, Gateway, Port, Protocol, Route, Service
from shoal.model.replica import TcpAddress, UnixAddress
from shoal.model.traffic import Balance, Breaker, Choice, Fault, Limit, Outlier, Policy, RetryBudget
from shoal.xds.envoy import find_envoy
from tests.support.envoy import edge_map
from tests.support.static_config import plain, static_config

FOLDER = Path(__file__).parent
OPTIONS = MeshOptions(mesh_socket="/run/shoal/mesh.sock", doors="/run/shoal")


def service(name: str, port: int | None, *, calls: tuple[str, ...] = (), publish: bool = True) -> Service:
    return Service(name=name, workload=Command(argv=("serve",)), folder="/app", port=port, publish=publish, calls=calls)


APPS = {
    "one-service": App(name="hello", services=(service("hello", 8080),)),
    "worker": App(
        name="jobs", services=(service("queue", 5000, publish=False), service("worker", None, calls=("queue",)))
    ),
    "shop": App(
        name="shop",
        services=(
            service("user-service", 3000),
            service("product-service", 3001),
            service("cart-service", 3002, calls=("product-service",)),
        ),
        gateway=Gateway(
            port=8088,
            routes=(
                Route(service="user-service", path="/users"),
                Route(service="product-service", path="/products"),
                Route(service="product-service", path="/products/new"),
                Route(service="cart-service", path="/", host="Carts.Shop.test"),
            ),
        ),
    ),
}


APPS["protocols"] = App(
    name="protocols",
    services=(
        Service(
            name="web",
            workload=Command(argv=("serve",)),
            folder="/app",
            port=3000,
            port_name="http",
            publish=True,
            ports=(Port(name="grpc", number=3001, protocol=Protocol.GRPC, publish=True),),
            calls=("cache", "payments"),
            rewrite_host="localhost",
        ),
        Service(
            name="cache",
            workload=Command(argv=("redis-server",)),
            folder="/app",
            port=6379,
            protocol=Protocol.TCP,
            publish=True,
        ),
        Service(
            name="payments",
            workload=External(host="pay.example.com", port=8443),
            folder="/app",
            port=80,
            replicas=0,
        ),
        Service(
            name="database",
            workload=External(host="10.0.0.7", port=5432),
            folder="/app",
            port=5432,
            protocol=Protocol.TCP,
            replicas=0,
        ),
    ),
    gateway=Gateway(
        port=8088,
        routes=(
            Route(service="web", path="/api", rewrite="/"),
            Route(service="web", path="/old", rewrite="/v2"),
            Route(service="web", path="/demo.Echo", port="grpc"),
        ),
    ),
)


APPS["behind-a-proxy"] = App(
    name="site",
    services=(service("web", 3000, publish=False),),
    gateway=Gateway(
        port=8080, routes=(Route(service="web", path="/"),), trusted_proxies=("127.0.0.1/32", "2001:db8::/32")
    ),
)


APPS["traffic"] = App(
    name="traffic",
    services=(
        replace(
            service("web", 3000, calls=("api", "cache")),
            edges=(
                (
                    "api",
                    Policy(
                        timeout_s=0.5,
                        retries=1,
                        breaker=Breaker(requests=20),
                        limit=Limit(requests=10, per_s=1.0),
                        fault=Fault(delay_s=0.2, percent=50.0),
                    ),
                ),
                ("cache", Policy(breaker=Breaker(connections=5))),
            ),
        ),
        replace(
            service("api", 3001),
            traffic=Policy(
                timeout_s=0.0,
                retry_budget=RetryBudget(percent=50.0),
                outlier=Outlier(errors=0),
                breaker=Breaker(connections=0, pending=0, requests=0),
                limit=Limit(requests=30, per_s=60.0, burst=5),
                balance=Balance(choice=Choice.RING_HASH, cookie="cart", ttl_s=3600.0),
                fault=Fault(abort=503, percent=0.5),
            ),
        ),
        Service(
            name="cache",
            workload=Command(argv=("redis-server",)),
            folder="/app",
            port=6379,
            protocol=Protocol.TCP,
            traffic=Policy(retries=0),
        ),
    ),
    gateway=Gateway(port=8080, routes=(Route(service="api", path="/api", rewrite="/"),)),
)


def compiled(app: App) -> dict[str, dict[str, Message]]:
    return compile_app(app, edge_map(app, 77), OPTIONS)


def readable(resources: Mapping[str, Mapping[str, Message]]) -> str:
    """YAML in which what is equal is written once."""
    whole = {
        type_url.rpartition(".")[2]: {name: plain(message) for name, message in messages.items()}
        for type_url, messages in resources.items()
    }
    return yaml.safe_dump(_shared(whole, {}), sort_keys=True, width=120, allow_unicode=True)


def _shared(value: Any, seen: dict[str, Any]) -> Any:
    """Equal parts become the same object, which the dumper gives an anchor; small ones are clearer in full."""
    if isinstance(value, dict):
        value = {key: _shared(part, seen) for key, part in value.items()}
    elif isinstance(value, list):
        value = [_shared(part, seen) for part in value]
    else:
        return value
    text = repr(value)
    return seen.setdefault(text, value) if len(text) > 150 else value


def compare(path: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    wanted = path.read_text() if path.exists() else ""
    assert text.splitlines() == wanted.splitlines(), f"not as in {path.name}; meant? UPDATE_GOLDEN=1"


@pytest.mark.parametrize("name", APPS)
def test_an_app_compiles_to_what_its_golden_file_says(name: str) -> None:
    compare(FOLDER / f"{name}.yaml", readable(compiled(APPS[name])))


def test_endpoints_are_what_their_golden_file_says() -> None:
    endpoints = [
        Endpoint(replica="cart-service-r2", address=TcpAddress(host="127.0.0.1", port=41001)),
        Endpoint(replica="cart-service-r1", address=UnixAddress(path="/run/shoal/cart-service-r1.sock")),
    ]
    messages = {"cart-service": assignment("cart-service", endpoints), "idle": assignment("idle", [])}
    compare(FOLDER / "endpoints.yaml", readable({"x.ClusterLoadAssignment": messages}))


@pytest.mark.integration
@pytest.mark.parametrize("name", APPS)
def test_envoy_finds_nothing_wrong_with_it(name: str, tmp_path: Path) -> None:
    config = tmp_path / "envoy.json"
    config.write_text(static_config(compiled(APPS[name])))
    done = subprocess.run(
        [str(find_envoy()), "--mode", "validate", "--config-path", str(config), "--log-level", "warn"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr


@pytest.mark.parametrize("name", APPS)
def test_the_same_app_gives_the_same_bytes(name: str) -> None:
    one, other = (
        {
            name: m.SerializeToString(deterministic=True)
            for messages in compiled(APPS[name]).values()
            for name, m in messages.items()
        }
        for _ in range(2)
    )
    assert one == other
