"""Environments, made by the real uv from packages that the tests write themselves: no index is asked."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from shoal.engines.local import uv
from shoal.engines.local.environments import FINISHED, Environment, Environments
from shoal.engines.local.overlays import Overlays
from shoal.errors import EngineError

pytestmark = pytest.mark.integration


def wheel(folder: Path, name: str, version: str = "1.0", *, code: str = "") -> Path:
    """A package with one module."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", code or f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


class Shop:
    """An app folder with two packages at hand, and what is said while its environments are made."""

    def __init__(self, root: Path) -> None:
        self.app = root / "my app"
        self.state = root / "envs"
        self.said: list[str] = []
        self._heard = asyncio.Event()
        wheel(self.app / "wheels", "shoaltiny")
        wheel(self.app / "wheels", "shoalsmall", "2.0")
        self.write("requirements.txt", "--no-index\n--find-links wheels\nshoaltiny==1.0\n")

    def write(self, name: str, text: str) -> None:
        path = self.app / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def environments(self) -> Environments:
        return Environments(self.state)

    async def prepare(self, folder: str = ".") -> Environment:
        return await self.environments().prepare(self.app / folder, self.app, self._say)

    def made(self, folder: str = ".") -> Environment:
        return asyncio.run(self.prepare(folder))

    async def _say(self, message: str) -> None:
        self.said.append(message)
        self._heard.set()

    async def hears(self, text: str) -> None:
        """Waits until something is said that begins so."""
        async with asyncio.timeout(20):
            while not any(message.startswith(text) for message in self.said):
                self._heard.clear()
                await self._heard.wait()

    @property
    def builds(self) -> int:
        return sum(message.startswith("making its environment") for message in self.said)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def runs(environment: Environment, code: str) -> str:
    result = subprocess.run([environment.python, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return result.stdout.strip()


def test_requirements_are_installed_and_nothing_else(shop: Shop) -> None:
    made = shop.made()
    assert runs(made, "import shoaltiny; print(shoaltiny.VERSION)") == "1.0"
    assert (
        runs(made, "import importlib.util as u; print(u.find_spec('shoal'), u.find_spec('shoalsmall'))") == "None None"
    )
    assert made.folder is not None
    assert list(made.folder.rglob("shoaltiny.*.pyc"))
    assert shop.said == ["making its environment from requirements.txt", "installing 1 package"]
    assert made == shop.environments().locate(shop.app, shop.app)


def test_services_that_start_together_share_one_environment_built_once(shop: Shop) -> None:
    for name in ("a", "b", "c"):
        shop.write(f"{name}/web.py", "")

    async def main() -> list[Environment]:
        return await asyncio.gather(*(shop.prepare(name) for name in "abc"))

    first, *others = asyncio.run(main())
    assert others == [first, first]
    assert shop.builds == 1
    assert shop.said.count("waits for the environment that another replica makes") == 2
    assert runs(first, "import shoaltiny; print('ok')") == "ok"


def test_an_environment_is_made_once_for_ever(shop: Shop) -> None:
    first = shop.made()
    shop.said.clear()
    assert shop.made() == first
    assert shop.said == []


def test_other_requirements_are_another_environment_and_the_old_one_stays(shop: Shop) -> None:
    old = shop.made()
    shop.write("requirements.txt", "--no-index\n--find-links wheels\nshoalsmall\n")
    new = shop.made()
    assert old != new
    assert runs(old, "import shoaltiny; print('ok')") == "ok"
    assert runs(new, "import shoalsmall; print('ok')") == "ok"


def test_half_of_an_environment_is_made_again(shop: Shop) -> None:
    made = shop.made()
    assert made.folder is not None
    (made.folder / FINISHED).unlink()
    for file in made.folder.rglob("shoaltiny.py"):
        file.unlink()
    assert shop.made() == made
    assert shop.builds == 2
    assert runs(made, "import shoaltiny; print('ok')") == "ok"


def test_an_environment_whose_python_is_gone_is_made_again(shop: Shop) -> None:
    made = shop.made()
    made.python.unlink()
    made.python.symlink_to("/no/such/python")
    assert shop.made() == made
    assert runs(made, "print('ok')") == "ok"


def test_an_environment_in_a_folder_that_was_moved_is_made_again(shop: Shop, tmp_path: Path) -> None:
    made = shop.made()
    shop.state.rename(tmp_path / "moved")
    shop.state = tmp_path / "moved"
    moved = shop.made()
    assert moved.folder is not None and made.folder is not None
    assert moved.folder.name == made.folder.name
    assert shop.builds == 2
    assert str(made.folder) not in (moved.folder / "bin" / "activate").read_text()


def test_a_build_that_is_cancelled_leaves_the_way_free(shop: Shop) -> None:
    async def main() -> None:
        work = asyncio.create_task(shop.prepare())
        await shop.hears("making its environment")
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(main())
    assert runs(shop.made(), "import shoaltiny; print('ok')") == "ok"


def test_a_lock_left_by_a_killed_daemon_is_no_obstacle(shop: Shop) -> None:
    made = shop.made()
    assert made.folder is not None
    (made.folder / FINISHED).unlink()
    holds = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, 2); print(1, flush=True); time.sleep(1000)"
    lock = made.folder.with_suffix(".lock")
    holder = subprocess.Popen([sys.executable, "-c", holds, lock], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder.stdout:
        holder.stdout.readline()

        async def main() -> Environment:
            work = asyncio.create_task(shop.prepare())
            await shop.hears("waits for the environment")
            holder.kill()
            return await work

        assert asyncio.run(main()) == made
    holder.wait()


def test_what_cannot_be_installed_says_why_and_leaves_nothing(shop: Shop) -> None:
    shop.write("requirements.txt", "--no-index\n--find-links wheels\nshoaltiny==9\n")
    with pytest.raises(EngineError) as caught:
        shop.made()
    assert caught.value.message.startswith(f"the environment of {shop.app.resolve()}/requirements.txt cannot be made: ")
    assert "shoaltiny==9" in caught.value.message
    assert caught.value.way_out == "correct the requirement that is named"
    assert "No solution found" in caught.value.detail
    assert [path.suffix for path in shop.state.iterdir()] == [".lock"]


def test_hashes_are_checked(shop: Shop) -> None:
    wrong = "0" * 64
    shop.write("requirements.txt", f"--no-index\n--find-links wheels\nshoaltiny==1.0 --hash=sha256:{wrong}\n")
    with pytest.raises(EngineError) as caught:
        shop.made()
    assert "hash" in caught.value.detail.lower()


def test_a_project_brings_its_dependencies(shop: Shop) -> None:
    shop.write(
        "svc/pyproject.toml",
        '[project]\nname = "svc"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["shoalsmall"]\n'
        '[tool.uv]\nno-index = true\nfind-links = ["../wheels"]\n',
    )
    made = shop.made("svc")
    assert runs(made, "import shoalsmall; print('ok')") == "ok"


def test_a_locked_project_is_installed_as_locked(shop: Shop) -> None:
    shop.write(
        "svc/pyproject.toml",
        '[project]\nname = "svc"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["shoaltiny"]\n'
        '[tool.uv]\nno-index = true\nfind-links = ["../wheels"]\n',
    )
    subprocess.run([uv.find_uv(), "lock", "--quiet", "--project", shop.app / "svc"], check=True)
    before = (shop.app / "svc" / "uv.lock").read_text()
    wheel(shop.app / "wheels", "shoaltiny", "1.5")
    made = shop.made("svc")
    assert runs(made, "import shoaltiny; print(shoaltiny.VERSION)") == "1.0"
    assert (shop.app / "svc" / "uv.lock").read_text() == before
    assert not (shop.app / "svc" / ".venv").exists()
    assert shop.said[0] == "making its environment from uv.lock"


def test_a_venv_and_no_environment_at_all_are_told_to_be_not_reproducible(shop: Shop) -> None:
    (shop.app / "requirements.txt").unlink()
    own = shop.made()
    assert own.python == Path(sys.executable)
    assert own.warning == "runs in Shoal's own Python environment"
    assert "requirements.txt" in own.way_out
    (shop.app / ".venv" / "bin").mkdir(parents=True)
    (shop.app / ".venv" / "bin" / "python").symlink_to(sys.executable)
    venv = shop.made()
    assert venv.python == shop.app.resolve() / ".venv" / "bin" / "python"
    assert venv.warning.endswith("which is not reproducible")
    assert shop.builds == 0


def test_a_state_folder_that_cannot_be_written_is_said(shop: Shop) -> None:
    shop.state.write_text("a file in its place")
    with pytest.raises(EngineError, match="cannot be written"):
        shop.made()


def test_the_overlay_is_made_once_in_the_users_cache(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # uv's own cache stays where it is, whatever this test says.
    cache = subprocess.run([uv.find_uv(), "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setenv("UV_CACHE_DIR", cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = shop.made()
    said: list[str] = []

    async def say(message: str) -> None:
        said.append(message)

    async def main() -> list[Path]:
        return await asyncio.gather(*(Overlays(tmp_path / "no").prepare(made, say) for _ in range(3)))

    folder, *others = asyncio.run(main())
    assert others == [folder, folder]
    assert folder.parent == tmp_path / "cache" / "shoal" / "overlays"
    assert (folder / "granian").is_dir()
    assert not (folder / "click").exists()
    assert said.count("fetching the server for this Python") == 1
    assert sorted(path.suffix for path in folder.parent.iterdir()) == ["", ".lock"]


def test_the_overlay_goes_to_the_state_folder_when_there_is_no_cache(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = subprocess.run([uv.find_uv(), "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setenv("UV_CACHE_DIR", cache)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    async def say(message: str) -> None:
        pass

    made = Environment(python=Path(sys.executable), folder=None)
    folder = asyncio.run(Overlays(tmp_path / "fallback").prepare(made, say))
    assert folder.parent == tmp_path / "fallback"


def test_a_lock_file_is_only_ever_held_by_one(tmp_path: Path) -> None:
    """`flock` counts by open file: two tasks of one process wait for each other, too."""
    path = tmp_path / "x.lock"
    first, second = (os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2))
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(first)
        os.close(second)
