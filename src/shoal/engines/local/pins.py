"""Which Python and which Node a service asks for, by its app file or in its folder, and where the programs are."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

from shoal.engines.local import interpreters, recipes
from shoal.engines.local.interpreters import Wanted
from shoal.engines.local.sources.snapshots import Snapshot
from shoal.model.app import App, Command, Service

_NODE = re.compile(r"(?:^|[\s/;&|(])(?:node|nodejs|npm|npx|yarn|pnpm|tsx|ts-node|next|vite)(?=[\s;&|)]|$)")
"""What runs on Node; that of a folder is no concern of another program in it."""


def python(
    asked: str, recipe_folder: Path | None, service_folder: Path, app_folder: Path, snapshot: Snapshot | None
) -> Wanted | None:
    """`asked`: `python` of the app file. `recipe_folder`: where its requirements are, None: it has none, and any does.
    None: any does."""
    if asked:
        return Wanted(text=asked, source="'python' in the app file")
    if recipe_folder is None:
        return None
    return _named(interpreters.python_of(recipe_folder, _folders(service_folder, app_folder, snapshot)), snapshot)


def tools(app: App, service: Service, snapshot: Snapshot | None, own: Path | None, path: str) -> tuple[Path, ...]:
    """The folders of programs that go before `path`, for its replicas and for its build step. `own`: the Python that
    it asks for, where that has no environment. EngineError: this machine does not have the Node that it asks for."""
    found = [own] if own is not None and service.python else []
    wanted = _node(app, service, snapshot)
    first = shutil.which("node", path=path)
    if wanted is not None and not (first and wanted.takes(interpreters.version_of(first))):
        found.append(interpreters.find("Node", wanted, service.name))
    return tuple(program.parent for program in found)


def _node(app: App, service: Service, snapshot: Snapshot | None) -> Wanted | None:
    if service.node:
        return Wanted(text=service.node, source="'node' in the app file")
    command = service.workload.argv if isinstance(service.workload, Command) else ()
    if not _NODE.search(" ".join([*command, *(service.build or ())])):
        return None
    folders = _folders(Path(service.folder), Path(app.folder), snapshot)
    return _named(interpreters.node_of(folders), snapshot)


def _folders(service_folder: Path, app_folder: Path, snapshot: Snapshot | None) -> list[Path]:
    """Where it may say so, the nearest first: in its snapshot, and above what that holds in the working tree."""
    folders = list(recipes.upward(service_folder, app_folder))
    if snapshot is None:
        return folders
    above = [folder for folder in folders if not folder.is_relative_to(snapshot.origin)]
    return [*recipes.upward(snapshot.folder, snapshot.root), *above]


def _named(wanted: Wanted | None, snapshot: Snapshot | None) -> Wanted | None:
    """As errors name it: the file that its author knows, and not the copy in the snapshot."""
    if wanted is None or snapshot is None:
        return wanted
    source = wanted.source.replace(f"{snapshot.root}{os.sep}", f"{snapshot.origin}{os.sep}", 1)
    return replace(wanted, source=source)
