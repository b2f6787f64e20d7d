"""Which Python and Node a service asks for, and which of this machine's it gets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shoal.engines.local import interpreters, pins
from shoal.engines.local.environments import Environments
from shoal.engines.local.interpreters import Wanted, find, node_of, python_of
from shoal.engines.local.sources.snapshots import Snapshots
from shoal.engines.local.versions import begins, satisfies
from shoal.errors import EngineError
from shoal.model.app import App, Command, Service


@pytest.mark.parametrize(
    ("version", "wanted", "is_it"),
    [("3.12.1", "3.12", True), ("3.12.1", "3.1", False), ("3.12.1", "3.12.1", True), ("20.1.0", "20", True),
     ("", "3", False)],
)  # fmt: skip
def test_a_version_is_meant_by_its_beginning(version: str, wanted: str, is_it: bool) -> None:
    assert begins(version, wanted) is is_it


@pytest.mark.parametrize(
    ("version", "wanted", "is_it"),
    [
        ("3.11.7", ">=3.11", True), ("3.10.1", ">=3.11", False), ("3.12.0", ">=3.11,<3.12", False),
        ("3.11.7", "~=3.11", True), ("3.11.7", "~=3.11.8", False), ("3.11.7", "==3.11.*", True),
        ("3.11.7", "!=3.11.7", False), ("3.11.7", "<=3.11", True), ("3.11.7", ">3.11", False),
        ("20.1.0", "^20 || >=22", True), ("21.0.0", "^20 || >=22", False), ("20.2.0", "~20.1", False),
        ("20.2.0", "20.x", True), ("20.2.0", "18 - 20", True), ("20.2.0", "*", True), ("20.2.0", "lts", True),
    ],
)  # fmt: skip
def test_a_range_is_read_as_pip_and_npm_read_it(version: str, wanted: str, is_it: bool) -> None:
    assert satisfies(version, wanted) is is_it


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with Nodes in it, and nothing on the PATH."""
    for version in ("18.2.0", "20.1.0", "20.11.0"):
        program = tmp_path / f".nvm/versions/node/v{version}/bin/node"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho v{version}\n")
        program.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(interpreters, "_MORE", ())
    return tmp_path


def test_the_newest_that_suits_is_taken(machine: Path) -> None:
    assert find("Node", Wanted(text="20", source="x"), "web").parts[-3] == "v20.11.0"
    assert find("Node", Wanted(text="20.1", source="x"), "web").parts[-3] == "v20.1.0"
    assert find("Node", Wanted(text=">=16 <20", source="x", is_range=True), "web").parts[-3] == "v18.2.0"


def test_what_is_not_there_is_told_with_what_is(machine: Path) -> None:
    with pytest.raises(EngineError) as caught:
        find("Node", Wanted(text="22", source="'node' in the app file"), "web")
    assert "service 'web' wants Node 22 ('node' in the app file), and this machine has 18.2.0, 20.1.0, 20.11.0" in str(
        caught.value
    )
    assert "install Node 22 (Shoal fetches none), or ask for one that is there" in str(caught.value)


def test_what_stands_beside_the_code_is_read(tmp_path: Path) -> None:
    web = tmp_path / "web"
    web.mkdir()
    folders = [web, tmp_path]
    assert python_of(web, folders) is None and node_of(folders) is None
    (web / "pyproject.toml").write_text("[project]\nname = 'x'\nrequires-python = '>=3.12'\n")
    (web / "package.json").write_text('{"engines": {"node": ">=18"}}')
    asked, node = python_of(web, folders), node_of(folders)
    assert asked is not None and (asked.text, asked.is_range) == (">=3.12", True)
    assert node is not None and (node.text, node.is_range) == (">=18", True)
    (tmp_path / ".python-version").write_text("3.12.4\n")
    (tmp_path / ".nvmrc").write_text("v20.11\n")
    asked, node = python_of(web, folders), node_of(folders)
    assert asked is not None and (asked.text, asked.is_range) == ("3.12", False)
    assert node is not None and (node.text, node.source) == ("20.11", str(tmp_path / ".nvmrc"))
    (tmp_path / ".nvmrc").write_text("lts/iron\n")
    node = node_of(folders)
    assert node is not None and node.text == ">=18"


def test_a_revision_asks_for_what_stood_beside_its_code_when_it_was_deployed(machine: Path) -> None:
    web = machine / "app/web"
    web.mkdir(parents=True)
    (machine / "app/.nvmrc").write_text("20.1\n")
    (web / ".gitignore").write_text(".python-version\n")
    (web / ".python-version").write_text("3.99.1\n")
    (web / "requirements.txt").write_text("")
    service = Service(name="web", workload=Command(argv=("sleep",)), folder=str(web), build=("npm", "ci"))
    app = App(name="a", services=(service,), folder=str(machine / "app"))
    snapshots = Snapshots(machine / "sources")
    snapshot = snapshots.find(snapshots.take(service, app, keep=True)[0])
    (machine / "app/.nvmrc").write_text("99\n")
    (web / ".python-version").write_text(f"{sys.version_info.major}.{sys.version_info.minor}\n")
    # What runs the build step decides, too, and its Node goes first.
    assert [folder.parts[-2] for folder in pins.tools(app, service, snapshot, None, "")] == ["v20.1.0"]
    with pytest.raises(EngineError, match=r"wants Node 99 \(.*/app/\.nvmrc\)"):
        pins.tools(app, service, None, None, "")
    environments = Environments(machine / "envs")
    with pytest.raises(EngineError) as caught:
        environments.locate(web, machine / "app", snapshot=snapshot, service="web")
    assert f"service 'web' wants Python 3.99 ({web}/.python-version)" in str(caught.value)
    environments.locate(web, machine / "app", service="web")
