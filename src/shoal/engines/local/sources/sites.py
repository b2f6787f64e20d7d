"""The folder of a static site: where a revision's is, and what is wrong where it has none."""

from __future__ import annotations

import os
from pathlib import Path

from shoal.engines.local.sources.rules import OWN
from shoal.engines.local.sources.tree import Tree
from shoal.errors import EngineError
from shoal.model.app import Service
from shoal.model.surroundings import Static


def folder_of(service: Service, home: Path) -> Path:
    """What is served. One outside the service's folder is no part of a revision, and is served where it is."""
    assert isinstance(service.workload, Static)
    inside = _inside(service)
    return Path(os.path.normpath(Path(service.folder, service.workload.folder))) if inside is None else home / inside


def is_outside(service: Service) -> bool:
    return isinstance(service.workload, Static) and _inside(service) is None


def check_source(service: Service, own: Tree) -> None:
    """At a deploy. EngineError: the revision would have nothing to serve, and no step makes it."""
    if not isinstance(service.workload, Static):
        return
    inside = _inside(service)
    if inside is None:
        _check_is_there(service, Path(service.folder, service.workload.folder))
        return
    if service.build or inside == "." or any(entry.path.startswith(f"{inside}/") for entry in own.entries):
        return
    _check_is_there(service, Path(service.folder, inside))
    left = next((path for path in own.left_out if f"{inside}/".startswith(f"{path}/")), None)
    if left is not None:
        raise EngineError(
            f"service {service.name!r} serves {inside}, and a .gitignore or {OWN} leaves {left} out of the revision",
            way_out=f"let the revision make it (build: npm ci && npm run build), or take it in: write !{left} into "
            f"{service.folder}/{OWN}",
        )
    if not any(entry.path == inside for entry in own.entries):
        raise EngineError(
            f"service {service.name!r} serves {inside}, which is no part of its revision",
            way_out=f"let the revision make it (build: npm ci && npm run build), or name another folder than {inside}",
        )


def check_built(service: Service, home: Path) -> None:
    """After its build step. EngineError: that has not made what is served."""
    if isinstance(service.workload, Static) and not (folder := folder_of(service, home)).is_dir():
        made = service.workload.folder
        raise EngineError(
            f"service {service.name!r} serves {made}, and its build step has made no such folder: {folder}",
            way_out=f"name the folder that it makes in 'static'; see what it printed: shoal logs {service.name} "
            "--build",
        )


def _inside(service: Service) -> str | None:
    """Relative to the service's folder; None: it is outside."""
    assert isinstance(service.workload, Static)
    path = os.path.relpath(Path(service.folder, service.workload.folder), service.folder)
    return None if path == ".." or path.startswith("../") else path


def _check_is_there(service: Service, folder: Path) -> None:
    if not folder.is_dir():
        raise EngineError(
            f"service {service.name!r} serves {os.path.normpath(folder)}, which does not exist",
            way_out="make it, let the revision make it (build: npm ci && npm run build), or correct 'static'",
        )
