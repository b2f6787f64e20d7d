"""The examples as files: valid, small, and free of Shoal. What they do is shown in tests/e2e."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from shoal.engines.local.resources import programs
from shoal.errors import EngineError
from shoal.model.app import App, PythonApp, Route, Service
from shoal.model.resources import Kind
from shoal.spec.load import load_app

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> App:
    return load_app(EXAMPLES / name, {}, "host")


def own(app: App) -> list[Service]:
    """Without the databases and brokers."""
    return [service for service in app.services if isinstance(service.workload, PythonApp)]


def test_hello_is_two_services_on_8080_and_8081() -> None:
    app = load("hello")
    assert [(service.name, service.port, service.publish) for service in app.services] == [
        ("hello", 8080, True),
        ("world", 8081, True),
    ]


def test_the_shop_is_three_services_with_databases_and_a_storefront_behind_8088() -> None:
    app = load("shop")
    assert [(service.name, service.port, service.replicas, service.calls) for service in own(app)] == [
        ("user-service", 3000, 3, ()),
        ("product-service", 3001, 3, ("user-service",)),
        ("cart-service", 3002, 3, ("user-service", "product-service")),
        ("storefront", 3003, 2, ("user-service", "product-service", "cart-service")),
    ]
    assert [service.database is not None for service in own(app)] == [True, True, True, False]
    assert app.gateway is not None and app.gateway.port == 8088


def test_the_application_before_it_is_split_is_one_service_with_one_database() -> None:
    [service] = load("one-application").services
    assert (service.name, service.calls, service.uses) == ("shop", (), ())
    assert service.database is not None


def test_the_shop_in_express_has_its_records_in_mongodb_by_another_file() -> None:
    plain, kept = load("express-shop"), load("express-shop/mongodb.yaml")
    assert [service.name for service in kept.services] == ["mongodb", *(service.name for service in plain.services)]
    assert [[use.name for use in service.uses] for service in kept.services[1:]] == [["mongodb"]] * 3


def test_a_machine_without_mongodb_hears_of_both_ways_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineError, match="no mongod on the PATH") as caught:
        programs.server(Kind.MONGODB)
    assert "install it, or run its image: resources: {mongodb: {image: ...}}" in caught.value.way_out
    with pytest.raises(EngineError, match="podman or docker"):
        programs.containers()


def test_the_static_site_has_files_a_volume_and_an_api_under_its_path() -> None:
    app = load("static-site")
    assert str(app.service("front").workload) == "site (spa)"
    visits = app.service("visits")
    assert [file.target for file in visits.files] == ["/etc/visits/visits.conf", "/etc/visits/listen.conf"]
    assert [str(volume) for volume in visits.volumes] == ["count:/var/lib/visits"]


@pytest.mark.parametrize("name", ["hello", "shop"])
def test_each_workload_is_a_module_with_that_attribute(name: str) -> None:
    for service in own(load(name)):
        assert isinstance(service.workload, PythonApp)
        module = source_of(name, service)
        assigned = {
            target.id
            for node in ast.parse(module.read_text()).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert service.workload.attribute in assigned, module


def source_of(example: str, service: Service) -> Path:
    assert isinstance(service.workload, PythonApp)
    return EXAMPLES / example / service.folder / (service.workload.module.replace(".", "/") + ".py")


PATH = re.compile(r'(?:@\w+\.(?:get|post|put|patch|delete)|Route|Mount)\(\s*"([^"]+)"')


def test_every_path_of_the_shop_has_a_way_through_the_gateway_but_what_is_for_services_alone() -> None:
    app = load("shop")
    assert app.gateway is not None
    for service in own(app):
        paths = {
            path for file in source_of("shop", service).parent.glob("*.py") for path in PATH.findall(file.read_text())
        }
        assert paths
        for path in paths:
            most_exact = max((route for route in app.gateway.routes if covers(route, path)), key=lambda r: len(r.path))
            inside = path.startswith("/reservations/")
            assert most_exact.service == ("storefront" if inside else service.name), path


def covers(route: Route, path: str) -> bool:
    return path == route.path or path.startswith(route.path.rstrip("/") + "/")


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
