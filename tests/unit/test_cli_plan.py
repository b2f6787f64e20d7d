"""`shoal plan`: what a deploy would change, decided by the planner itself, and nothing done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shoal.control.dryrun import dry_run
from shoal.control.revisions import next_desired
from shoal.model.app import App
from shoal.model.replica import ReplicaState
from shoal.model.status import Change, ChangeKind, DryRun
from shoal.model.world import Desired, Observed, Revision
from shoal.spec.load import load_text
from tests.support.api import DRY_RUN
from tests.unit.test_cli_commands import FakeClient, document, out, plane  # noqa: F401 - a fixture
from tests.unit.test_planner import NOW, replica, world

BEFORE = """
app: shop
services:
  users: {command: 'sleep 9', port: 3000, env: {A: '1', B: secret}}
  carts: {command: 'sleep 9', port: 3001, calls: [users]}
  mailer: {command: 'sleep 9'}
"""


def load(text: str) -> App:
    return load_text(text.encode(), "shoal.yaml", Path("/shop"), {}, "host")


def deployed(text: str) -> tuple[Desired, dict[str, Revision]]:
    desired, fresh, _ = next_desired(load(text), None, {}, NOW)
    return desired, {revision.service.name: revision for revision in fresh}


def changes(after: str, observed: Observed | None = None) -> tuple[dict[str, Change], DryRun]:
    current, newest = deployed(BEFORE)
    seen = observed or world(replica("users", 1), replica("carts", 1))
    found = dry_run(load(after), current, newest, seen, NOW)
    return {change.service: change for change in found.changes}, found


def test_where_nothing_runs_all_is_new_and_the_proxy_starts_first() -> None:
    found = dry_run(load(BEFORE), None, {}, Observed(), 0.0)
    assert {change.change for change in found.changes} == {ChangeKind.NEW}
    assert [change.revision for change in found.changes] == [1, 1, 1]
    assert "make revision 1 of users ready: deploy 1" in found.decisions
    assert "start Envoy: the app needs its proxy" in found.decisions


def test_a_job_is_planned_by_its_own_words() -> None:
    first = BEFORE + "jobs: {report: {command: x, schedule: '@daily'}}\n"
    current, newest = deployed(first)
    observed = world(replica("users", 1), replica("carts", 1), replica("mailer", 1))
    found = dry_run(load(first.replace("@daily", "@hourly")), current, newest, observed, NOW)
    assert {c.service: c.reasons for c in found.changes}["report"] == ("schedule: @daily -> @hourly",)
    assert "report: the next run is due" in found.waits
    found = dry_run(load(first), None, {}, Observed(), NOW)
    assert not [words for words in found.decisions if "report" in words]  # it is due, not missing


def test_the_same_file_changes_nothing() -> None:
    observed = world(replica("users", 1), replica("carts", 1), replica("mailer", 1))
    by_name, found = changes(BEFORE, observed)
    assert {change.change for change in by_name.values()} == {ChangeKind.UNCHANGED}
    assert found.decisions == () and found.gateway is None


@pytest.mark.parametrize(
    ("old", "new", "reasons"),
    [
        ("command: 'sleep 9', port: 3000", "run: 'a:b', port: 3000", ("command sleep 9 -> run a:b",)),
        ("B: secret", "B: other", ("env.B",)),
        ("A: '1', ", "C: '1', ", ("env.A (gone)", "env.C (new)")),
        ("port: 3000,", "port: 3000, replicas: 2,", ("replicas: 1 -> 2",)),
        ("port: 3000,", "port: 3000, publish: false,", ("publish: true -> false",)),
        ("port: 3000,", "port: 3000, cwd: /tmp,", ("cwd: /shop -> /tmp",)),
        ("port: 3000,", "port: 3000, health: /ok,", ("health: none -> /ok",)),
    ],
)
def test_each_change_names_its_key_and_never_a_variables_value(old: str, new: str, reasons: tuple[str, ...]) -> None:
    by_name, _ = changes(BEFORE.replace(old, new, 1))
    assert (by_name["users"].change, by_name["users"].reasons) == (ChangeKind.CHANGED, reasons)
    assert by_name["mailer"].change is ChangeKind.UNCHANGED
    assert "secret" not in repr(by_name)


def test_only_what_makes_a_revision_replaces_replicas() -> None:
    by_name, found = changes(BEFORE.replace("A: '1'", "A: '2'"))
    assert by_name["users"].revision == 2
    assert "make revision 2 of users ready: deploy 2" in found.decisions
    by_name, found = changes(BEFORE.replace("port: 3000,", "port: 3000, publish: false,"))
    assert by_name["users"].revision is None
    assert not any("users" in line for line in found.decisions)


def test_a_callees_new_port_replaces_its_callers() -> None:
    by_name, _ = changes(BEFORE.replace("port: 3000", "port: 3009"))
    assert by_name["users"].reasons == ("port: 3000 -> 3009",)
    assert (by_name["carts"].revision, by_name["carts"].reasons) == (2, ("a port of a service that it calls",))


def test_a_removed_service_is_drained_and_a_new_gateway_is_told() -> None:
    after = BEFORE.replace("  mailer: {command: 'sleep 9'}\n", "gateway: {port: 8080, routes: {/: users}}\n")
    by_name, found = changes(after, world(replica("users", 1), replica("carts", 1), replica("mailer", 1)))
    assert by_name["mailer"].change is ChangeKind.REMOVED
    assert found.decisions == ("drain mailer-r1: its service was removed from the app",)
    assert found.gateway is ChangeKind.NEW


def test_nothing_is_changed_by_asking() -> None:
    observed = world(replica("users", 1, ReplicaState.READY))
    before = (dict(observed.replicas), observed.mesh_generation)
    changes(BEFORE.replace("A: '1'", "A: '2'"), observed)
    assert (observed.replicas, observed.mesh_generation) == before


def test_plan_asks_what_runs_and_shows_it(
    plane: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(FakeClient, "plan", lambda self, app: asked.append(app) or DRY_RUN, raising=False)
    text = out(capsys, "plan")
    assert text.splitlines()[0] == "shop: against what runs"
    assert "cart         changed    port: 3000 -> 3002\n" in text
    assert "old          removed    is not in the app file\n" in text
    assert "the gateway  new\n" in text
    assert "  start cart-r2 (revision 2): replaces an older one by revision 2\n" in text
    assert document(capsys, "plan")["changes"][0]["reasons"] == ["port: 3000 -> 3002"]
    assert asked[0]["name"] == "shop"


def test_plan_without_a_plane_starts_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shoal.yaml").write_text(BEFORE)
    monkeypatch.chdir(tmp_path)
    assert out(capsys, "plan").startswith("shop: nothing runs yet\n")
    assert document(capsys, "plan", "-f", str(tmp_path))["generation"] == 1
    assert not (tmp_path / ".shoal").exists()
