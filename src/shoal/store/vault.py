"""Secrets at rest: `<state>/secrets.json` (0600), each value under AES-256-GCM, with a key that lies elsewhere.

The key: the file that `SHOAL_KEY_FILE` names, else systemd's credential `shoal-key`, else `~/.config/shoal/key` (0600),
which is made at the first use. Whoever gets a copy of the state folder alone, in a backup say, has no value.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets as chance
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shoal import files
from shoal.errors import StoreError
from shoal.paths import StateFolder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SIZE_MAX = 64 << 10
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One secret, without its value."""

    name: str
    set_at: float
    """Seconds of the epoch."""


class Vault:
    """Each method opens the file anew: several processes may use it. Raises StoreError."""

    def __init__(self, state: StateFolder) -> None:
        self._path = state.root / "secrets.json"
        self._lock = state.root / "secrets.lock"

    def kept(self) -> list[Kept]:
        return [Kept(name=name, set_at=float(str(row["set_at"]))) for name, row in sorted(self._rows().items())]

    def read(self) -> dict[str, str]:
        """Name -> value, of all."""
        rows = self._rows()
        if not rows:
            return {}
        cipher = _cipher(self._key(make=False))
        return {name: self._opened(cipher, name, row) for name, row in rows.items()}

    def set(self, name: str, value: str, now: float) -> None:
        with self._changing() as rows:
            self._put(rows, {name: value}, now)

    def _put(self, rows: dict[str, dict[str, object]], values: Mapping[str, str], now: float) -> None:
        cipher = _cipher(self._key(make=not rows))
        if rows:  # one that another key opens would be lost among those of this one
            first = next(iter(rows))
            self._opened(cipher, first, rows[first])
        for name, value in values.items():
            nonce = os.urandom(12)
            data = cipher.encrypt(nonce, value.encode(), name.encode())
            rows[name] = {"nonce": _text(nonce), "data": _text(data), "set_at": now}

    def remove(self, name: str) -> bool:
        """False: there is no such one."""
        with self._changing() as rows:
            return rows.pop(name, None) is not None

    def generate(self, wanted: Mapping[str, int], now: float) -> list[str]:
        """Makes those of `wanted` (name -> bytes of chance) that are not there; their names."""
        if wanted.keys() <= self._rows().keys():
            return []
        with self._changing() as rows:  # two services may start at once: the first makes it for both
            missing = [name for name in wanted if name not in rows]
            self._put(rows, {name: chance.token_urlsafe(wanted[name]) for name in missing}, now)
        return missing

    def _rows(self) -> dict[str, dict[str, object]]:
        try:
            plain = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise StoreError(f"{self._path} cannot be read: {error}", way_out="bring it back from a backup") from error
        if not isinstance(plain, dict) or plain.get("version") != _VERSION:
            raise StoreError(f"{self._path} is of another version of Shoal", way_out="use that version")
        rows: dict[str, dict[str, object]] = plain["secrets"]
        return rows

    @contextmanager
    def _changing(self) -> Iterator[dict[str, dict[str, object]]]:
        """One at a time; what is there at the end is written, whole or not at all."""
        try:
            self._lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                rows = self._rows()
                before = json.dumps(rows)
                yield rows
                if json.dumps(rows) == before:
                    return
                files.write(self._path, json.dumps({"version": _VERSION, "secrets": rows}, indent=1), sync=True)
            finally:
                os.close(lock)
        except OSError as error:
            words = f"{self._path} cannot be written: {error.strerror}; nothing has changed"
            raise StoreError(words, way_out="make room, or check whose folder it is") from error

    def _opened(self, cipher: AESGCM, name: str, row: Mapping[str, object]) -> str:
        from cryptography.exceptions import InvalidTag

        try:
            nonce, data = (base64.b64decode(str(row[part])) for part in ("nonce", "data"))
            return cipher.decrypt(nonce, data, name.encode()).decode()
        except (InvalidTag, KeyError, ValueError):
            raise StoreError(
                f"secret {name} was not encrypted with the key in {key_path()}",
                way_out="bring back the key that it was set with (SHOAL_KEY_FILE names another), or set all secrets "
                f"anew: remove {self._path}",
            ) from None

    def _key(self, *, make: bool) -> bytes:
        path = key_path()
        if make:
            try:
                files.make_once(path, lambda: base64.b64encode(os.urandom(32)).decode() + "\n")
            except OSError as error:
                raise StoreError(
                    f"the key of the secrets, {path}, cannot be made: {error.strerror}",
                    way_out="name a place that can be written: SHOAL_KEY_FILE=...",
                ) from error
        return read_key(path)


def check_key() -> str:
    """Where the key is, in words. StoreError: it cannot be used."""
    path = key_path()
    if not path.exists():
        return f"the first one makes its key, {path}"
    read_key(path)
    return f"their key is {path}"


def read_key(path: Path) -> bytes:
    """StoreError: it cannot be used."""
    try:
        status = path.stat()
        if status.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(status.st_mode) & 0o077:
            raise StoreError(f"the key {path} can be read by others", way_out=f"chmod 600 {path}")
        key = base64.b64decode(path.read_bytes())
    except ValueError:
        key = b""
    except OSError as error:
        raise StoreError(
            f"the key of the secrets, {path}, cannot be used: {error.strerror}",
            way_out="bring it back from a backup, or name another: SHOAL_KEY_FILE=...",
        ) from error
    if len(key) != 32:
        raise StoreError(f"{path} holds no key: it must be 32 bytes in base64", way_out="bring it back from a backup")
    return key


def key_path() -> Path:
    if named := os.environ.get("SHOAL_KEY_FILE"):
        return Path(named)
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (found := Path(credentials, "shoal-key")).exists():
        return found
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base, "shoal", "key")


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
