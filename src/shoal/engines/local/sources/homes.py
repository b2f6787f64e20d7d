"""Where the replicas of a revision start: in the working tree, or in a copy of its snapshot."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shoal.engines.local.sources import builds, sites
from shoal.engines.local.sources.copies import Copies, Copy, Progress
from shoal.engines.local.sources.snapshots import Snapshot, Snapshots, Source, runs_in_place
from shoal.errors import EngineError
from shoal.model.app import App, Command, Service
from shoal.model.world import Revision
from shoal.paths import StateFolder

Warn = Callable[[str, str, str], Awaitable[None]]
"""Subject, message, way out."""
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    folder: Path
    """Its processes' working directory."""
    snapshot: Snapshot | None = None
    """None: it is in the working tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Furnishing:
    """What a home is made from."""

    revision: Revision
    snapshot: Snapshot | None
    environment: Path | None
    """The folder of its Python environment."""
    env: Mapping[str, str]
    """The variables of its build step."""


class Homes:
    def __init__(self, state: StateFolder, *, warn: Warn) -> None:
        self._logs = state.logs
        self._leftovers = state.leftovers
        self._snapshots = Snapshots(state.sources)
        self._copies = Copies(state.builds)
        self._warn = warn
        self._taking = asyncio.Lock()

    async def sweep(self) -> None:
        """Once, before anything else: nobody takes a snapshot yet."""
        await asyncio.to_thread(self._snapshots.sweep)

    async def take(self, app: App, *, keep: bool) -> Mapping[str, str]:
        """`ports.Engine.snapshot`."""
        found: dict[str, str] = {}
        taken: dict[str, tuple[str, Source]] = {}
        async with self._taking:
            for service in app.services:
                if runs_in_place(service, app):
                    continue
                _check_folder(service)
                if service.folder not in taken:
                    taken[service.folder] = await asyncio.to_thread(self._snapshots.take, service, app, keep=keep)
                found[service.name], source = taken[service.folder]
                sites.check_source(service, source.own)
                if keep:
                    await self._remark(service, source)
        return found

    def snapshot_of(self, revision: Revision) -> Snapshot | None:
        """None: it runs in the working tree. EngineError: its snapshot is gone. Blocks."""
        return self._snapshots.find(revision.source) if revision.source else None

    def files(self, source: str) -> dict[str, str]:
        """`ports.Engine.files`. Blocks."""
        snapshot = self._snapshots.find(source)
        pairs = zip(snapshot.entries, snapshot.hashes, strict=True)
        return {entry.path: f"{entry.mode} {entry.target} {content}" for entry, content in pairs if entry.source}

    async def ready(self, furnishing: Furnishing, progress: Progress) -> Home:
        """Its copy is made, unless it exists. EngineError."""
        revision, snapshot = furnishing.revision, furnishing.snapshot
        service = revision.service
        if snapshot is None:
            _check_folder(service)
            return Home(folder=Path(service.folder))
        step, key = await asyncio.to_thread(_step_and_key, furnishing, snapshot)
        build = None
        if step is not None:
            log = self._logs / service.name / f"build-{revision.number}.log"

            async def build(copy: Copy, descriptor: int) -> None:
                await builds.run(service.name, step, copy.folder, furnishing.env, log, progress, descriptor)

        copy = await self._copies.ready(snapshot, key, progress, build)
        await asyncio.to_thread(sites.check_built, service, copy.folder)
        packages = await asyncio.to_thread(_lend_packages, service, snapshot, copy)
        if packages is not None:
            await self._warn(
                service.name,
                f"uses {packages}, which is not reproducible",
                "let a build step install its packages (build: npm ci)",
            )
        return Home(folder=copy.folder, snapshot=snapshot)

    def locate(self, furnishing: Furnishing) -> Home:
        """What `ready` gives; it may not exist yet. Blocks."""
        snapshot = furnishing.snapshot
        if snapshot is None:
            return Home(folder=Path(furnishing.revision.service.folder))
        _, key = _step_and_key(furnishing, snapshot)
        return Home(folder=self._copies.locate(snapshot, key).folder, snapshot=snapshot)

    def collect(self, needed: Collection[str], used: Collection[Path]) -> None:
        """Removes snapshots that are none of `needed`, and their copies, unless one of `used` is in there. What
        programs wrote in them stays, in `leftovers`. Blocks."""
        busy = {self._copies.key_of(folder) for folder in used}
        kept = set(needed)
        for key, source in self._copies.known().items():
            if key in busy or source in needed:
                kept.add(source)
                continue
            try:
                self._copies.rescue(key, self._leftovers / key)
                self._copies.remove(key)
            except OSError:
                kept.add(source)  # a full disk; another time
        for digest in self._snapshots.known():
            if digest not in kept:
                self._snapshots.remove(digest)

    async def tell_what_is_written(self, services: Iterable[tuple[str, str]]) -> None:
        """Warns of what programs wrote beside their code: the next revision does not have it. `services`: names and
        the folders that their replicas run in."""
        for name, folder in services:
            key = self._copies.key_of(Path(folder))
            written = await asyncio.to_thread(self._copies.written, key) if key is not None else []
            if written:
                more = f" and {len(written) - _NAMED} more" if len(written) > _NAMED else ""
                await self._warn(
                    name,
                    f"it has written {', '.join(written[:_NAMED])}{more} beside its code, in {folder}: that stays with "
                    "this revision, and the next one does not have it",
                    "let it write to the folder $SHOAL_DATA_DIR names: that outlives revisions",
                )

    async def _remark(self, service: Service, source: Source) -> None:
        """On what is not as in the working tree, where it may well be missed."""
        if source.own.odd:
            odd = ", ".join(source.own.odd[:_NAMED])
            await self._warn(service.name, f"{odd}: no plain file, so it is no part of the revision", "")
        left_out = set(source.own.left_out)
        if ".env" in left_out and not service.env_files:
            await self._warn(
                service.name,
                f"{service.folder}/.env is no part of a revision, and its program does not find it",
                "give its variables to the service: env_file: .env",
            )
        for word in _words(service):
            left = next((path for path in left_out if word == path or word.startswith(f"{path}/")), None)
            if left is not None and left != "node_modules" and not left.startswith(".env"):
                await self._warn(
                    service.name,
                    f"its command names {word}, and a .gitignore or .shoalignore leaves {left} out of the revision",
                    f"take it in: write !{left} into {service.folder}/.shoalignore",
                )


def _step_and_key(furnishing: Furnishing, snapshot: Snapshot) -> tuple[builds.Step | None, str]:
    service, path = furnishing.revision.service, furnishing.env.get("PATH", os.defpath)
    step = builds.step_of(service, snapshot, path)
    environment = furnishing.environment.name if furnishing.environment is not None else ""
    return step, builds.key_of(snapshot, step, service, environment, path)


def _lend_packages(service: Service, snapshot: Snapshot, copy: Copy) -> Path | None:
    """A link to the working tree's `node_modules`, for a program that finds none otherwise. Where it leads."""
    link = copy.folder / "node_modules"
    if isinstance(service.workload, Command) and not os.path.lexists(link):
        folder = Path(service.folder)
        for parent in (folder, *folder.parents):
            if not parent.is_relative_to(snapshot.origin):
                break
            if (parent / "node_modules").is_dir():
                link.symlink_to(parent / "node_modules")
                break
    return link.readlink() if link.is_symlink() else None


def _words(service: Service) -> list[str]:
    if not isinstance(service.workload, Command):
        return []
    words = [word for part in service.workload.argv for word in part.split()]
    return [word.strip("'\"").removeprefix("./") for word in words]


def _check_folder(service: Service) -> None:
    if not Path(service.folder).is_dir():
        raise EngineError(
            f"the folder of service {service.name!r} does not exist: {service.folder}",
            way_out="correct 'cwd' in the app file",
        )
