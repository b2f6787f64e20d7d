"""Secrets on their way to a process: which values it gets, as what, and what its log must not show."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from shoal import files
from shoal.errors import EngineError
from shoal.model import secrets
from shoal.model.app import App, Service
from shoal.paths import StateFolder

HIDDEN_MIN = 8
"""A shorter one is not taken out of logs: it would be found everywhere."""


class Confidential:
    """`read`: gives all secrets of the app, name -> value; `generate`: makes those that are missing, name -> bytes.
    Both raise StoreError."""

    def __init__(
        self,
        state: StateFolder,
        read: Callable[[], Mapping[str, str]] = dict,
        generate: Callable[[Mapping[str, int]], object] = lambda wanted: None,
    ) -> None:
        self._state, self._read, self._generate = state, read, generate

    def values(self, app: App, service: Service) -> Mapping[str, str]:
        """Those that it uses; what is to be generated is. Blocks. EngineError: one is not set; StoreError."""
        names = secrets.used_by(service)
        if not names:
            return {}
        wanted = {name: size for name, size in app.secrets if size and name in names}
        if wanted:
            self._generate(wanted)
        known = self._read()
        if missing := sorted(names - known.keys()):
            raise EngineError(self.words(service.name, missing[0]), way_out=f"set it: shoal secret set {missing[0]}")
        return {name: known[name] for name in names}

    def missing(self, app: App) -> list[str]:
        """One line for each secret that is not set, and nobody generates. Blocks. StoreError."""
        made = {name for name, size in app.secrets if size}
        used = {service.name: secrets.used_by(service) - made for service in app.services}
        if not any(used.values()):
            return []
        known = self._read().keys()
        return [
            f"{self.words(whose, name)}: shoal secret set {name}"
            for whose, names in used.items()
            for name in sorted(names - known)
        ]

    @staticmethod
    def words(whose: str, name: str) -> str:
        return f"{whose} uses the secret {name}, which is not set"

    def files(self, service: Service, values: Mapping[str, str], whose: str) -> dict[str, str]:
        """Writes those that it finds in files; variable -> path. `whose`: the replica, at whose next start they are
        written anew. Blocks. EngineError."""
        folder = self._state.run / "secrets"
        return {
            variable: str(_written(folder / f"{whose}.{name}", values[name])) for name, variable in service.secret_files
        }

    def release(self, whose: str) -> None:
        """Removes the files of a replica that will not come again."""
        for path in (self._state.run / "secrets").glob(f"{whose}.*"):
            path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """What a command was to read, and did not."""
        for path in (self._state.run / "secrets").glob("exec-*.json"):
            path.unlink(missing_ok=True)

    def apart(self, env: Mapping[str, str], hidden: Collection[str]) -> tuple[dict[str, str], str | None]:
        """What of `env` may be told; and the path of a file, to be read once, with the variables that hold a secret."""
        closed = {key: value for key, value in env.items() if any(one in value for one in hidden)}
        if not closed:
            return dict(env), None
        path = self._state.run / "secrets" / f"exec-{os.urandom(8).hex()}.json"
        _written(path, json.dumps(closed))
        return {key: value for key, value in env.items() if key not in closed}, str(path)


def read_once(path: str | None) -> dict[str, str]:
    """What `apart` put there; nothing, where it kept nothing back. EngineError."""
    if path is None:
        return {}
    try:
        found: dict[str, str] = json.loads(Path(path).read_bytes())
        Path(path).unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read: {error}", way_out="try again") from error
    return found


def hideable(values: Iterable[str]) -> list[str]:
    """Those that are long enough."""
    return sorted({value for value in values if len(value) >= HIDDEN_MIN})


def hidden_parts(env: Mapping[str, str], values: Collection[str]) -> list[list[object]]:
    """Where in the variables they are: `keeper.registry.Record.hidden`."""
    found: list[list[object]] = []
    for value in values:
        key = next((key for key, text in env.items() if value in text), None)
        if key is not None:
            start = env[key].index(value)
            found.append([key, start, start + len(value)])
    return found


def _written(path: Path, text: str) -> Path:
    try:
        files.write(path, text)
    except OSError as error:
        raise EngineError(f"{path} cannot be written: {error.strerror}") from error
    return path
