"""`shoal dev`: which services a changed file belongs to, how a debugger is let in, what is told."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shoal.cli import watching
from shoal.cli.debugging import HOOKS, debugged
from shoal.cli.dev import for_people
from shoal.cli.imports import Imports
from shoal.cli.interleaved import Interleaved
from shoal.errors import UsageError
from shoal.model.app import App, Command, PythonApp, Service
from shoal.model.journal import JournalEntry
from shoal.model.replica import Exit, ReplicaState
from shoal.model.status import LogLine
from shoal.planner import plan
from shoal.testing import apps
from tests.unit.test_planner import NOW, replica, wanted, world

SOURCES = {
    "shop/__init__.py": "",
    "shop/users.py": "import shop.models\nfrom .common import log\n",
    "shop/products.py": "from shop import common\n",
    "shop/common.py": "def log():\n    from . import late\n",
    "shop/late.py": "",
    "shop/models.py": "import json, shop.users\n",
    "shop/templates/page.html": "",
    "shop/test_users.py": "import shop.users\n",
    "node/users.js": "require('./lib')",
    "node/carts.js": "",
    "node/lib.js": "",
    "job.py": "import helper\n",
    "helper.py": "",
}


def service(name: str, workload: PythonApp | str, folder: Path) -> Service:
    made = Command(argv=("/bin/sh", "-c", workload)) if isinstance(workload, str) else workload
    return Service(name=name, workload=made, folder=str(folder), port=None)


@pytest.fixture
def shop(tmp_path: Path) -> App:
    for name, text in SOURCES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    services = (
        service("users", PythonApp(module="shop.users", attribute="app"), tmp_path),
        service("products", PythonApp(module="shop.products", attribute="app"), tmp_path),
        service("job", "exec python -u job.py --often", tmp_path),
        service("node-users", "node users.js", tmp_path / "node"),
        service("node-carts", "node carts.js", tmp_path / "node"),
    )
    return App(name="shop", services=services, folder=str(tmp_path))


@pytest.mark.parametrize(
    ("changed", "services"),
    [
        ("shop/users.py", ["users"]),
        ("shop/models.py", ["users"]),
        ("shop/products.py", ["products"]),
        ("shop/common.py", ["users", "products"]),
        ("shop/late.py", ["users", "products"]),
        ("shop/__init__.py", ["users", "products"]),
        ("shop/templates/page.html", ["users", "products", "job"]),
        ("shop/plugin.py", ["users", "products", "job"]),
        ("shop/test_users.py", []),
        ("helper.py", ["job"]),
        ("job.py", ["job"]),
        ("node/users.js", ["node-users"]),
        ("node/lib.js", ["node-users", "node-carts"]),
    ],
)
def test_a_changed_file_reloads_whom_it_is_part_of(shop: App, changed: str, services: list[str]) -> None:
    assert list(watching.affected(shop, [Path(shop.folder) / changed], Imports())) == services


def test_what_was_imported_before_a_syntax_error_still_counts(shop: App) -> None:
    imports, root = Imports(), Path(shop.folder)
    assert list(watching.affected(shop, [root / "shop/late.py"], imports)) == ["users", "products"]
    (root / "shop/common.py").write_text("def (")
    assert list(watching.affected(shop, [root / "shop/late.py"], imports)) == ["users", "products"]


def test_imports_are_read_and_never_run(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("import other\nopen('ran', 'w')\nraise SystemExit\n")
    (tmp_path / "other.py").write_text("from .. import up\nfrom . import *\n")
    assert Imports().of_module(tmp_path, "evil") == {tmp_path / "evil.py", tmp_path / "other.py"}
    assert not (tmp_path / "ran").exists()
    assert Imports().of_module(tmp_path, "missing") == set() == Imports().of_file(tmp_path / "missing.py")


@pytest.mark.parametrize(
    ("name", "matters"),
    [
        ("app.py", True), ("x/app.ts", True), ("requirements-dev.txt", True), (".env", True), ("shoal.yaml", True),
        ("notes.md", False), ("data.db", False), ("app.log", False), ("data.json", False), ("package.json", True),
        (".app.py.swp", False), ("app.py~", False), ("4913", False), ("#app.py#", False),
        (".shoal/logs/a.py", False), ("node_modules/a/b.js", False), (".venv/lib/x.py", False),
        ("a/__pycache__/x.py", False), (".git/HEAD.py", False), ("x.egg-info/a.py", False), ("../other/a.py", False),
    ],
)  # fmt: skip
def test_only_sources_are_watched(name: str, matters: bool, tmp_path: Path) -> None:
    path = tmp_path.parent / name[3:] if name.startswith("../") else tmp_path / name
    assert watching.is_source(path, tmp_path) is matters


def test_each_folder_is_watched_once(tmp_path: Path) -> None:
    inner = [service("a", "x", tmp_path / "app/a"), service("b", "x", tmp_path / "elsewhere")]
    app = App(name="x", services=tuple(inner), folder=str(tmp_path / "app"))
    assert watching.folders(app) == [tmp_path / "app", tmp_path / "elsewhere"]


PY, JS = HOOKS / "debugger.py", HOOKS / "debugger.cjs"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("python", "-u", "app.py", "-x"), ("python", "-u", str(PY), "app.py", "-x")),
        (("python3.12", "-m", "app"), ("python3.12", str(PY), "-m", "app")),
        (("node", "app.js"), ("node", "--require", str(JS), "app.js")),
        (
            ("/bin/sh", "-c", "exec python3 -u app.py --port $PORT 'a b'"),
            ("/bin/sh", "-c", f"exec python3 -u {PY} app.py --port $PORT 'a b'"),
        ),
        (("/bin/sh", "-c", "node server.js"), ("/bin/sh", "-c", f"node --require {JS} server.js")),
    ],
)
def test_a_command_gets_its_debugger(argv: tuple[str, ...], expected: tuple[str, ...]) -> None:
    made = debugged(Service(name="web", workload=Command(argv=argv), folder="/", port=1, replicas=3), "127.0.0.1:1")
    assert made.service.workload == Command(argv=expected)
    assert (made.service.replicas, dict(made.service.env)) == (1, {"SHOAL_DEBUG": "127.0.0.1:1"})


@pytest.mark.parametrize(
    "argv", [("ruby", "app.rb"), ("/bin/sh", "-c", "cd x && node a.js"), ("/bin/sh", "-c", "npm start"), ("/bin/sh",)]
)
def test_what_cannot_be_debugged_is_refused_with_the_way_out(argv: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        debugged(Service(name="web", workload=Command(argv=argv), folder="/"), "127.0.0.1:1")
    assert "`run:`" in caught.value.way_out


def test_dev_is_one_replica_of_each_and_debuggers_have_ports_of_their_own() -> None:
    app = apps.app("web", "cart")
    run = PythonApp(module="a", attribute="b")
    app = replace(app, services=tuple(replace(s, workload=run, replicas=3) for s in app.services))
    addresses: dict[str, str] = {}
    made, debugging = for_people(app, ["web", "cart"], addresses)
    assert made.dev and [s.replicas for s in made.services] == [1, 1]
    assert len({found.address for found in debugging}) == 2
    assert for_people(app, ["web", "cart"], addresses)[0] == made
    with pytest.raises(UsageError, match="has no service 'wbe'"):
        for_people(app, ["wbe"], {})


def test_in_dev_a_new_replica_takes_over_at_once() -> None:
    app = replace(apps.app("web"), dev=True)
    observed = world(replica("web", 1), replica("web", 2, generation=1, ready_since=NOW))
    (action,) = plan(wanted(app, generation=1), observed, NOW).actions
    assert "is replaced" in action.reason
    assert plan(wanted(replace(app, dev=False), generation=1), observed, NOW).actions == ()


def test_in_dev_code_that_does_not_start_is_not_tried_again_while_the_older_one_serves() -> None:
    app = replace(apps.app("web"), dev=True)
    broken = replica("web", 2, ReplicaState.BACKING_OFF, generation=1, crashes=1, last_exit=Exit(at=NOW - 60, code=70))
    decided = plan(wanted(app, generation=1), world(replica("web", 1), broken), NOW)
    assert decided.actions == () and "until the code changes" in decided.waits[0].reason
    # Saved again: the broken one goes, and another comes.
    decided = plan(wanted(app, generation=2), world(replica("web", 1), broken), NOW)
    assert [action.replica for action in decided.actions] == ["web-r2"]  # type: ignore[union-attr]
    # Alone it is tried again, as ever: it may wait for something.
    assert plan(wanted(app, generation=1), world(broken), NOW).actions != ()


def test_lines_are_interleaved_whole_with_aligned_names(capsys: pytest.CaptureFixture[str]) -> None:
    out = Interleaved(["web", "product-service"], as_json=False)
    out.log("web", LogLine(replica="web-r1", at="", text="\x1b[31mred\x1b[0m \x07"))
    out.reload("product-service", ["a.py", "b.py", "c.py", "d.py"])
    out.say("", "up")
    assert capsys.readouterr().out.splitlines() == [
        "web             | red \\x07",
        "product-service | -- reloads: a.py, b.py, c.py and 1 more",
        "shoal           | up",
    ]
    threads = [
        threading.Thread(
            target=lambda n=n: [out.log("web", LogLine(replica="", at="", text=str(n))) for _ in range(50)]
        )
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(capsys.readouterr().out.splitlines()) == 200
    out.close()
    out.log("web", LogLine(replica="", at="", text="late"))
    assert capsys.readouterr().out == ""


def test_for_machines_each_line_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    out = Interleaved(["web"], as_json=True)
    out.log("web", LogLine(replica="web-r1", at="", text="hello"))
    out.reload("web", ["a.py"])
    out.event(JournalEntry(sequence=1, at=0.0, kind="X", subject="web-r1", message="m", data={}), "web", "m")
    out.say("web", "words")
    lines: list[Any] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("log") or line.get("reload") or line.get("kind") or line.get("message") for line in lines] == [
        "web", "web", "X", "words",
    ]  # fmt: skip
