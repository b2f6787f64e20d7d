"""`graph`, `routes` and `schema`: what they draw from a file alone, and from what runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from shoal.cli import graph, routes
from shoal.cli.main import run
from shoal.model.status import GatewayStatus, RouteStatus
from shoal.spec.load import load_text
from shoal.spec.schema import json_schema
from tests.support.api import EXPLANATION
from tests.unit.test_cli_commands import FakeClient, document, out, plane  # noqa: F401 - a fixture
from tests.unit.test_cli_views import CRASHING, USERS, app

FILE = """
app: shop
services:
  users: {command: 'sleep 9', port: 3000, replicas: 3}
  cart-service: {command: 'sleep 9', port: 3001, calls: [users, cart-service], after: [users]}
  mailer: {command: 'sleep 9', calls: [users]}
gateway:
  port: 8080
  routes: {/users: users, "shop.localhost/": cart-service}
"""
SHOP = load_text(FILE.encode(), "shoal.yaml", Path("/shop"), {}, "host")


def test_a_job_is_drawn_as_one_with_what_it_calls() -> None:
    text = FILE + "jobs: {report: {command: x, calls: [users], schedule: '@daily'}, once: {command: x}}\n"
    app = load_text(text.encode(), "shoal.yaml", Path("/shop"), {}, "host")
    assert graph.as_text(app)[-3:] == ["  report (job, @daily)", "    -> users", "  once (job)"]
    assert '  s_report["report (job, @daily)"]' in graph.as_mermaid(app)
    found = graph.as_data(app)
    assert found["jobs"] == [{"name": "report", "schedule": "@daily"}, {"name": "once", "schedule": ""}]
    assert {"kind": "calls", "from": "report", "to": "users", "label": ""} in found["edges"]  # type: ignore[operator]


def test_the_text_names_every_way_and_a_cycle_is_no_problem() -> None:
    assert graph.as_text(SHOP) == [
        "shop",
        "  gateway :8080",
        "    /users          -> users",
        "    shop.localhost/ -> cart-service",
        "  users :3000 x3",
        "  cart-service :3001",
        "    -> users",
        "    -> cart-service",
        "    after users",
        "  mailer (worker)",
        "    -> users",
    ]


def test_dot_and_mermaid_declare_every_node_that_an_arrow_names() -> None:
    for lines, node in ((graph.as_dot(SHOP), r"^  (\w+) \["), (graph.as_mermaid(SHOP), r"^  (\w+)[\[(]")):
        declared = {found[1] for line in lines if (found := re.match(node, line))}
        used = {name for line in lines if "->" in line or ".->" in line for name in re.findall(r"\b(s_\w+)", line)}
        assert declared - {"node"} == {"gateway", "s_users", "s_cart_service", "s_mailer"}
        assert used <= declared and used
    assert graph.as_dot(SHOP)[-1] == "}"


def test_the_graph_needs_nothing_but_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shoal.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    assert out(capsys, "graph") == "\n".join(graph.as_text(SHOP)) + "\n"
    assert document(capsys, "graph") == json.loads(out(capsys, "graph", "--format", "json")) == graph.as_data(SHOP)
    assert not (tmp_path / ".shoal").exists()


def test_the_routes_of_a_file_have_no_edge_addresses_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shoal.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    assert run(["routes"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "shop does not run; this is what its file says\n"
    assert "shop.localhost/  cart-service  http://shop.localhost:8080/\n" in captured.out
    assert "users         http://localhost:3000\n" in captured.out
    assert "mailer        users         given at the first start\n" in captured.out
    found = document(capsys, "routes")
    assert (found["running"], found["edges"][0]["address"]) == (False, None)


def test_the_routes_of_a_plane_have_the_edges_addresses() -> None:
    gateway = GatewayStatus(
        address="http://localhost:8080", port=8080, routes=(RouteStatus(host=None, path="/carts", service="carts"),)
    )
    status = app(USERS, CRASHING, gateway=gateway)
    ways = routes.of_plane(status, [EXPLANATION])
    assert ways.running
    assert [route.address for route in ways.gateway] == ["http://localhost:8080/carts"]
    assert [found.address for found in ways.published] == ["http://localhost:3000"]
    assert {edge.callee: edge.address for edge in ways.edges} == EXPLANATION.reaches


def test_routes_asks_what_runs(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    FakeClient.statuses = [app(USERS)]
    FakeClient.explain, kept = lambda self, name: EXPLANATION, FakeClient.explain  # type: ignore[method-assign]
    try:
        assert document(capsys, "routes")["running"] is True
    finally:
        FakeClient.explain = kept  # type: ignore[method-assign]


def test_an_app_without_any_way_in_says_so() -> None:
    lonely = load_text(b"services: {job: {command: 'sleep 9'}}", "shoal.yaml", Path("/lonely"), {}, "host")
    assert routes.view(routes.of_file(lonely)) == ["lonely has no way in: no published port, no gateway, no calls"]
    assert graph.as_text(lonely) == ["lonely", "  job (worker)"]


def test_the_schema_is_the_one_that_the_loader_uses(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(out(capsys, "schema")) == json_schema()
