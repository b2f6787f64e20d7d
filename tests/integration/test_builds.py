"""Build steps: run once, in the revision's own copy; cached by what they depend on; collected with it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from shoal.engines.local.sources import builds, sites
from shoal.engines.local.sources.homes import Furnishing, Home, Homes
from shoal.engines.local.sources.snapshots import Snapshots
from shoal.errors import EngineError
from shoal.model.app import App, Command, PythonApp, Service
from shoal.model.surroundings import Static
from shoal.model.world import Revision
from shoal.paths import StateFolder

pytestmark = pytest.mark.integration


@dataclass
class Shop:
    app_folder: Path
    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    path: str = os.environ["PATH"]

    def __post_init__(self) -> None:
        self.state = StateFolder(self.app_folder / ".shoal")
        self.homes = Homes(self.state, warn=self._warn)
        self.number = 0

    def write(self, name: str, text: str) -> None:
        (self.app_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.app_folder / name).write_text(text)

    def service(self, build: str | None = None, command: str = "node server.js", **fields: object) -> Service:
        step = None if build is None else ("/bin/sh", "-c", build) if build else ()
        workload = Command(argv=("/bin/sh", "-c", command))
        plain = Service(name="web", workload=workload, folder=str(self.app_folder), build=step)
        return replace(plain, **fields)  # type: ignore[arg-type]

    async def deploy(self, service: Service) -> Furnishing:
        app = App(name="a", services=(service,), folder=str(self.app_folder))
        digests = await self.homes.take(app, keep=True)
        self.number += 1
        revision = Revision(service=service, number=self.number, digest="", created_at=0.0, source=digests["web"])
        snapshot = self.homes.snapshot_of(revision)
        env = {"PATH": self.path, **dict(service.env)}
        return Furnishing(revision=revision, snapshot=snapshot, environment=None, env=env)

    async def home(self, service: Service) -> Home:
        return await self.homes.ready(await self.deploy(service), self._say)

    async def _say(self, message: str) -> None:
        self.said.append(message)

    async def _warn(self, subject: str, message: str, way_out: str) -> None:
        self.warned.append(f"{subject}: {message}; {way_out}")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "app")
    made.write("server.js", "")
    return made


def test_a_step_runs_once_for_the_same_inputs_and_leaves_its_log(shop: Shop) -> None:
    async def scenario() -> None:
        step = "echo building; cat word.txt > out.txt; echo $LEVEL >> out.txt"
        shop.write("word.txt", "one\n")
        first = await shop.home(shop.service(step, env=(("LEVEL", "3"),)))
        assert (first.folder / "out.txt").read_text() == "one\n3\n"
        assert not (shop.app_folder / "out.txt").exists()
        assert "building" in (shop.state.logs / "web/build-1.log").read_text()
        again = await shop.home(shop.service(step, env=(("LEVEL", "3"),)))
        assert again.folder == first.folder
        assert len(shop.said) == 1
        other = await shop.home(shop.service(step, env=(("LEVEL", "4"),)))
        assert (other.folder / "out.txt").read_text() == "one\n4\n"
        shop.write("word.txt", "two\n")
        newer = await shop.home(shop.service(step, env=(("LEVEL", "4"),)))
        assert (newer.folder / "out.txt").read_text() == "two\n4\n"
        assert (first.folder / "out.txt").read_text() == "one\n3\n"

    asyncio.run(scenario())


def test_replicas_that_start_together_share_one_run(shop: Shop) -> None:
    async def scenario() -> None:
        furnishing = await shop.deploy(shop.service("sleep 0.1; echo x >> ../../../count"))
        await asyncio.gather(*(shop.homes.ready(furnishing, shop._say) for _ in range(4)))
        assert (shop.state.root / "count").read_text() == "x\n"

    asyncio.run(scenario())


FAILURES = {
    "echo missing glue; exit 3": "the build step of web failed: echo missing glue; exit 3: exit code 3",
    "kill -9 $$": "the build step of web failed: kill -9 $$: SIGKILL",
}


@pytest.mark.parametrize("step", FAILURES)
def test_a_failed_step_tells_its_last_lines_and_where_the_rest_is(step: str, shop: Shop) -> None:
    async def scenario() -> None:
        with pytest.raises(EngineError) as failed:
            await shop.home(shop.service(step))
        assert failed.value.message == FAILURES[step]
        assert "shoal logs web --build" in failed.value.way_out
        assert failed.value.detail == ("missing glue" if "glue" in step else "")
        (shop.app_folder / "more").write_text("")
        shop.number = 0
        home = await shop.home(shop.service("touch ok"))
        assert (home.folder / "ok").exists()

    asyncio.run(scenario())


def test_a_cancelled_step_ends_with_all_that_it_started_and_is_run_again(shop: Shop) -> None:
    async def scenario() -> None:
        shop.write("x", "")
        step = "test -e ../../../go && exit 0; sleep 60 & echo $! > ../../../pid; wait"
        work = asyncio.create_task(shop.home(shop.service(step)))
        pid = await until(lambda: (shop.state.root / "pid").exists() and (shop.state.root / "pid").read_text().strip())
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await until(lambda: gone(int(pid)))
        (shop.state.root / "go").touch()
        assert (await shop.home(shop.service(step))).folder.is_dir()

    asyncio.run(scenario())


def test_what_the_lock_file_asks_for_is_found(shop: Shop, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("npm", "pnpm"):
        (tools / tool).write_text("#!/bin/sh\n")
        (tools / tool).chmod(0o755)

    async def step(service: Service) -> str | None:
        furnishing = await shop.deploy(service)
        assert furnishing.snapshot is not None
        found = builds.step_of(service, furnishing.snapshot, str(tools))
        return str(found).split(" --")[0] if found else None

    async def scenario() -> None:
        assert await step(shop.service()) is None
        shop.write("package.json", '{"name": "x"}')
        assert await step(shop.service()) is None
        shop.write("package.json", '{"dependencies": {"express": "5"}}')
        assert await step(shop.service()) == "npm install"
        assert await step(shop.service(command="gunicorn web:app")) is None
        assert await step(shop.service(workload=PythonApp(module="a", attribute="b"))) is None
        assert await step(shop.service("")) is None
        assert await step(shop.service("make")) == "make"
        shop.write("yarn.lock", "")
        assert await step(shop.service()) == "npm install"  # there is no yarn
        shop.write("pnpm-lock.yaml", "")
        assert await step(shop.service()) == "pnpm install"
        shop.write("package-lock.json", "{}")
        assert await step(shop.service()) == "npm ci"

    asyncio.run(scenario())


def test_without_a_step_the_working_trees_packages_are_used_with_a_warning(shop: Shop) -> None:
    async def scenario() -> None:
        shop.write("package.json", '{"dependencies": {"express": "5"}}')
        shop.write("node_modules/express/index.js", "here")
        home = await shop.home(shop.service(""))
        assert (home.folder / "node_modules/express/index.js").read_text() == "here"
        assert any("not reproducible" in text for text in shop.warned)

    asyncio.run(scenario())


def test_what_will_be_missed_is_told_at_once(shop: Shop) -> None:
    async def scenario() -> None:
        shop.write(".env", "A=1")
        shop.write(".gitignore", "dist/\n")
        shop.write("dist/main.js", "")
        await shop.home(shop.service("", command="node ./dist/main.js"))
        assert [text.split(";")[1].strip() for text in sorted(shop.warned)] == [
            "give its variables to the service: env_file: .env",
            f"take it in: write !dist into {shop.app_folder}/.shoalignore",
        ]

    asyncio.run(scenario())


def test_what_no_revision_needs_is_removed_and_what_was_written_is_kept(shop: Shop) -> None:
    async def scenario() -> None:
        homes = []
        for word in ("one", "two", "three"):
            shop.write("word.txt", word)
            homes.append((await shop.deploy(shop.service("touch made")), await shop.home(shop.service("touch made"))))
        (homes[0][1].folder / "app.db").write_text("data")
        sources = [furnishing.revision.source for furnishing, _ in homes]
        # The second one runs still, the third is wanted.
        shop.homes.collect({sources[2]}, [homes[1][1].folder])
        assert not homes[0][1].folder.exists()
        assert homes[1][1].folder.exists() and homes[2][1].folder.exists()
        assert set(Snapshots(shop.state.sources).known()) == {sources[1], sources[2]}
        assert [path.read_text() for path in shop.state.leftovers.rglob("app.db")] == ["data"]

    asyncio.run(scenario())


def test_a_site_is_what_its_revision_holds_or_its_step_makes(shop: Shop) -> None:
    def site(build: str | None = None, folder: str = "dist") -> Service:
        return shop.service(build, workload=Static(folder=folder))

    def served(home: Home) -> str:
        return (sites.folder_of(site(), home.folder) / "index.html").read_text()

    async def refused(service: Service) -> str:
        with pytest.raises(EngineError) as caught:
            await shop.home(service)
        return str(caught.value)

    async def scenario() -> None:
        assert f"serves {shop.app_folder}/dist, which does not exist" in await refused(site())
        shop.write(".gitignore", "dist/\n")
        shop.write("dist/index.html", "by hand")
        said = await refused(site())
        assert "leaves dist out of the revision" in said
        assert "build: npm ci && npm run build" in said and f"write !dist into {shop.app_folder}/.shoalignore" in said
        shop.write("page.html", "old")
        step = "mkdir dist && cp page.html dist/index.html"
        first = await shop.deploy(site(step))
        assert served(await shop.homes.ready(first, shop._say)) == "old"
        shop.write("page.html", "new")
        assert served(await shop.home(site(step))) == "new"
        assert served(await shop.homes.ready(first, shop._say)) == "old"
        assert "has made no such folder" in await refused(site("true"))
        shop.write(".shoalignore", "!dist\n")
        assert served(await shop.home(site())) == "by hand"
        assert "which does not exist" in await refused(site(folder="../elsewhere"))

    asyncio.run(scenario())


async def until(look: Callable[[], object]) -> str:
    async with asyncio.timeout(60):
        while not (found := look()):  # noqa: ASYNC110 - other processes make it true
            await asyncio.sleep(0.02)
    return str(found)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
