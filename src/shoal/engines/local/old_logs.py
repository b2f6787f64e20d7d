"""Removes the logs of replicas and builds that are long gone."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

KEPT = 50
"""Logs of a service that stay whatever runs, those written last."""


def collect(logs: Path, used: Collection[Path]) -> None:
    """`used`: what running replicas write. What cannot be removed stays."""
    for service in _inside(logs):
        files = [path for path in _inside(service) if path.suffix == ".log"]
        for path in sorted(files, key=_written_at, reverse=True)[KEPT:]:
            if path not in used:
                _drop(path)
                _drop(path.with_name(path.name + ".1"))


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir()) if folder.is_dir() else []
    except OSError:
        return []


def _written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _drop(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass
