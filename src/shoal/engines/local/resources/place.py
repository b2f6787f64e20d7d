"""Where a resource keeps its data, whose that is, and its port: kept for as long as the data.

<state>/resources/<name>/    port, password (0600)
<state>/resources/<name>/data, or as root /var/lib/shoal/<12 hex>/<name>/data

PostgreSQL refuses to run as root, and another user may not enter `.shoal` (0700), nor perhaps the folders above. No
folder of anybody else's gets another mode: as root the data is below /var/lib.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shoal import files
from shoal.errors import EngineError
from shoal.paths import StateFolder

_ROOTS = Path("/var/lib/shoal")
_UIDS = range(60_700, 61_100)
"""Of nobody: between the users of people and those that systemd makes up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    own: Path
    """The resource's folder in the state folder."""
    data: Path
    uid: int | None
    """As whom its server runs; None: as we do."""

    def password(self, whose: str = "") -> str:
        """Made at the first call. `whose`: a service's; else that of the superuser. Blocks. EngineError."""
        return kept(self._password_file(whose), lambda: secrets.token_urlsafe(24))

    def has_password(self, whose: str) -> bool:
        """Whether it was made. Blocks."""
        return self._password_file(whose).exists()

    def _password_file(self, whose: str) -> Path:
        return self.own / (f"{whose}.password" if whose else "password")

    def port(self, lease: Callable[[], int], what: str = "port") -> int:
        """`lease`: gives one that is free. Blocks. EngineError."""
        return int(kept(self.own / what, lambda: str(lease())))

    def known_port(self, what: str = "port") -> int | None:
        """None: it was never leased. Blocks."""
        try:
            return int((self.own / what).read_text("ascii"))
        except (OSError, ValueError):
            return None

    def check_port(self, number: int) -> None:
        """EngineError: somebody else listens there."""
        if _is_listened_on(number):
            raise EngineError(
                f"port {number} of 127.0.0.1, which {self.own.name} had so far, is taken by another program",
                way_out=f"stop that, or remove {self.own / 'port'} and restart all that uses it",
            )


def place_of(state: StateFolder, name: str, *, apart: bool) -> Place:
    """Names only; nothing is made. `apart`: it may not run as root."""
    own = state.root / "resources" / name
    if not apart or os.geteuid() != 0:
        return Place(own=own, data=own / "data", uid=None)
    digest = hashlib.blake2b(os.fsencode(state.root), digest_size=6).hexdigest()
    return Place(own=own, data=_ROOTS / digest / name / "data", uid=_uid(_ROOTS / digest / name, digest))


def make(place: Place) -> None:
    """The folders, but for `data` itself. Blocks. EngineError."""
    try:
        place.own.mkdir(mode=0o700, parents=True, exist_ok=True)
        if place.uid is None:
            return
        above = place.data.parent
        for folder in (_ROOTS, above.parent):
            folder.mkdir(mode=0o755, exist_ok=True)
        above.mkdir(mode=0o700, exist_ok=True)
        os.chown(above, place.uid, place.uid)
        note = place.own / "data"  # so that who looks for it finds it
        if not note.is_symlink():
            note.symlink_to(place.data)
    except OSError as error:
        raise EngineError(f"{error.filename} cannot be made for {place.own.name}: {error.strerror}") from error


def kept(path: Path, make: Callable[[], str]) -> str:
    """A file's text, 0600, which is made once. EngineError."""
    try:
        files.make_once(path, make)
        return path.read_text("ascii").strip()
    except OSError as error:
        raise EngineError(f"{path} cannot be kept: {error.strerror}") from error


def _is_listened_on(port: int) -> bool:
    """What is left of connections that have ended does not count."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _uid(above: Path, digest: str) -> int:
    """Who owns the folder; before it is made, a number that no user of this machine and no other app has."""
    try:
        owner = above.stat().st_uid
    except FileNotFoundError:
        owner = 0
    if owner != 0:
        return owner
    taken = {folder.stat().st_uid for folder in _ROOTS.glob("*/*")}
    start = int(digest, 16) % len(_UIDS)
    for step in range(len(_UIDS)):
        uid = _UIDS[(start + step) % len(_UIDS)]
        if uid in taken:
            continue
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return uid
    raise EngineError(f"every user number from {_UIDS.start} to {_UIDS.stop - 1} is taken")
