"""What became of each migration: `<state>/migrations/<service>.json`, newest last, written atomically."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from shoal import files
from shoal.errors import EngineError
from shoal.model.migration import SUCCEEDED, MigrationRun

KEPT = 500


class Records:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, service: str) -> list[MigrationRun]:
        """Oldest first. EngineError: they cannot be read."""
        path = self._folder / f"{service}.json"
        try:
            rows = json.loads(path.read_bytes())
            return [MigrationRun(**row) for row in rows]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            raise EngineError(
                f"{path}, which says what was migrated, cannot be read: {error}",
                way_out="bring it back from a backup; without it each revision's migration runs once more",
            ) from error

    def succeeded(self, service: str, revision: int, database: str) -> bool:
        return any(
            (one.revision, one.database, one.outcome) == (revision, database, SUCCEEDED) for one in self.of(service)
        )

    def add(self, service: str, record: MigrationRun) -> None:
        """EngineError: it cannot be written."""
        path = self._folder / f"{service}.json"
        rows = [asdict(one) for one in [*self.of(service), record][-KEPT:]]
        try:
            files.write(path, json.dumps(rows, indent=1), sync=True)
        except OSError as error:
            raise EngineError(
                f"{path} cannot be written: {error.strerror}", way_out="make room, and deploy again"
            ) from error
