"""A revision's code is the one that was deployed, however its project is laid out; and what survives being killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shoal.engines.local.environments import Environment, Environments
from shoal.engines.local.sources.copies import Copies
from shoal.engines.local.sources.snapshots import Snapshot, Snapshots
from shoal.model.app import App, Command, Service

pytestmark = pytest.mark.integration

# A build back end in the project itself: no index is asked for one.
BACKEND = """
import os, zipfile

def _wheel(folder, editable):
    name = "proj-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        info = "proj-1.0.dist-info"
        if editable:
            archive.writestr("proj.pth", os.path.abspath("src"))
        else:
            archive.write("src/proj.py", "proj.py")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: proj\\nVersion: 1.0\\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(f"{info}/RECORD", "")
    return name

def build_wheel(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, False)

def build_editable(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, True)
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "proj"
version = "1.0"
dependencies = []
"""
LAYOUTS = {
    "a src layout": {},
    "an editable install": {"requirements.txt": "-e .\n"},
    "an editable library beside it": {"requirements.txt": "-e ../lib\n"},
}


def imported(environment: Environment, folder: Path) -> str:
    """What a replica would import."""
    line = [environment.python, "-c", "import proj; print(proj.WORD)"]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


async def nothing(_: str) -> None:
    pass


def app_of(folder: Path, cwd: str) -> tuple[Service, App]:
    service = Service(name="web", workload=Command(argv=("x",)), folder=str(folder / cwd))
    return service, App(name="a", services=(service,), folder=str(folder))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_older_revision_runs_its_own_code_after_the_source_has_changed(layout: str, tmp_path: Path) -> None:
    beside = layout == "an editable library beside it"
    folder, cwd = tmp_path / "app", "web" if beside else "."
    project = folder / ("lib" if beside else ".")
    files = {"backend.py": BACKEND, "pyproject.toml": PROJECT, "src/proj.py": "WORD = 'old'\n"}
    if layout == "an editable install":
        # Else the project is taken for what it says itself, and never for the requirements.
        files["pyproject.toml"] = PROJECT.replace("dependencies = []\n", "")
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    (folder / cwd).mkdir(exist_ok=True)
    for name, text in LAYOUTS[layout].items():
        (folder / cwd / name).write_text(text)
    snapshots, environments = Snapshots(tmp_path / "sources"), Environments(tmp_path / "envs")
    service, app = app_of(folder, cwd)

    def deployed() -> Snapshot:
        return snapshots.find(snapshots.take(service, app, keep=True)[0])

    async def word(snapshot: Snapshot) -> str:
        where = Path(service.folder), Path(app.folder)
        environment: Environment = await environments.prepare(*where, nothing, snapshot=snapshot)
        copy = await Copies(tmp_path / "builds").ready(snapshot, snapshot.digest, nothing)
        return imported(environment, copy.folder)

    async def scenario() -> None:
        first = deployed()
        assert await word(first) == "old"
        (project / "src/proj.py").write_text("WORD = 'new'\n")
        assert await word(first) == "old"
        second = deployed()
        assert second.digest != first.digest
        assert await word(second) == "new"
        assert await word(first) == "old"

    asyncio.run(scenario())


KILLED = """
import asyncio, sys
from pathlib import Path
from shoal.engines.local.sources.copies import Copies
from shoal.engines.local.sources.snapshots import Snapshots
from shoal.model.app import App, Command, Service

async def nothing(_): pass

base = Path(sys.argv[1])
service = Service(name="web", workload=Command(argv=("x",)), folder=str(base / "app"))
app = App(name="a", services=(service,), folder=str(base / "app"))
snapshots = Snapshots(base / "sources")
snapshots.sweep()
print("go", flush=True)
found = snapshots.find(snapshots.take(service, app, keep=True)[0])
copy = asyncio.run(Copies(base / "builds").ready(found, found.digest, nothing))
print(found.folder, copy.folder, flush=True)
"""


def test_killed_at_any_moment_the_next_snapshot_and_copy_are_whole(tmp_path: Path) -> None:
    for number in range(300):
        file = tmp_path / "app" / f"p{number % 7}" / f"m{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"x = {number}\n" * 20)
    chance = random.Random(7)
    line = [sys.executable, "-c", KILLED, str(tmp_path)]
    for round_ in range(12):
        # A new file each time, so that there is always something to do.
        (tmp_path / "app" / f"new{round_}.py").write_text(str(round_))
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "go\n"
            time.sleep(chance.uniform(0, 0.12))
            os.kill(process.pid, signal.SIGKILL)
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    snapshot, copy = done.stdout.split()[1:]
    wanted = contents(tmp_path / "app")
    assert contents(Path(snapshot)) == wanted
    assert contents(Path(copy)) == wanted
    for other in Snapshots(tmp_path / "sources").known():
        root = Snapshots(tmp_path / "sources").find(other).folder
        assert contents(root).items() <= wanted.items()


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
