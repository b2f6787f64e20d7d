"""The examples as files: valid, small, and free of Shoal. What they do is shown in tests/e2e."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from shoal.model.app import App, PythonApp, Route
from shoal.spec.load import load_app

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> App:
    return load_app(EXAMPLES / name, {}, "host")


def test_hello_is_two_services_on_8080_and_8081() -> None:
    app = load("hello")
    assert [(service.name, service.port, service.publish) for service in app.services] == [
        ("hello", 8080, True),
        ("world", 8081, True),
    ]


def test_the_shop_is_three_services_of_three_replicas_behind_8088() -> None:
    app = load("shop")
    assert [(service.name, service.port, service.replicas, service.calls) for service in app.services] == [
        ("user-service", 3000, 3, ()),
        ("product-service", 3001, 3, ()),
        ("cart-service", 3002, 3, ("product-service",)),
    ]
    assert app.gateway is not None and app.gateway.port == 8088
    assert {route.path.strip("/") for route in app.gateway.routes} == {
        "register",
        "login",
        "users",
        "products",
        "carts",
    }


def test_the_static_site_has_files_a_volume_and_an_api_under_its_path() -> None:
    app = load("static-site")
    assert str(app.service("front").workload) == "site (spa)"
    visits = app.service("visits")
    assert [file.target for file in visits.files] == ["/etc/visits/visits.conf", "/etc/visits/listen.conf"]
    assert [str(volume) for volume in visits.volumes] == ["count:/var/lib/visits"]


@pytest.mark.parametrize("name", ["hello", "shop"])
def test_each_workload_is_a_module_with_that_attribute(name: str) -> None:
    for service in load(name).services:
        assert isinstance(service.workload, PythonApp)
        module = EXAMPLES / name / (service.workload.module.replace(".", "/") + ".py")
        assigned = {
            target.id
            for node in ast.parse(module.read_text()).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert service.workload.attribute in assigned, module


def test_every_path_of_the_shop_has_a_way_through_the_gateway() -> None:
    app = load("shop")
    assert app.gateway is not None
    for service in app.services:
        assert isinstance(service.workload, PythonApp)
        source = (EXAMPLES / "shop" / (service.workload.module.replace(".", "/") + ".py")).read_text()
        paths = [path for path in re.findall(r'@app\.\w+\("([^"]+)"', source) if path != service.health]
        assert paths
        for path in paths:
            assert any(covers(route, path, service.name) for route in app.gateway.routes), path


def covers(route: Route, path: str, service: str) -> bool:
    return route.service == service and (path == route.path or path.startswith(route.path.rstrip("/") + "/"))


MODULES = sorted(
    path for path in EXAMPLES.rglob("*.py") if not {".shoal", "node_modules"} & set(path.parts)
)  # of whoever tried it


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_no_example_imports_shoal(path: Path) -> None:
    """What runs under Shoal runs without it. `shoal.sdk` is a library, which anybody may put on their path."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.split(".")[0] == "shoal" and name.split(".")[:2] != ["shoal", "sdk"]]
