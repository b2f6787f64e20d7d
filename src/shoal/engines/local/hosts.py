"""The private hosts files of an app's services."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from shoal import files
from shoal.engines.local import names
from shoal.errors import EngineError
from shoal.model.app import App
from shoal.model.topology import EdgeMap

HOSTS = Path("/etc/hosts")
NSSWITCH = Path("/etc/nsswitch.conf")


class HostsFiles:
    """`<folder>/<service>.<digest of the content>.hosts`.

    A file never changes once it is there: replicas have it bound over their /etc/hosts, and a changed set of names is
    another file, for those that start from then on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, app: App, edges: EdgeMap, service: str) -> Path:
        """The file in which every service of the app has the address that stands for a call by `service`.

        EngineError: it cannot be written."""
        addresses = {peer.name: edges.address(service, peer.name) for peer in app.services if peer.port is not None}
        text = names.hosts_text(_read(HOSTS), addresses)
        digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
        path = self._folder / f"{service}.{digest}.hosts"
        if not path.exists():
            self._store(path, text)
        return path

    def write_nsswitch(self) -> Path | None:
        """None: this machine has no nsswitch.conf, and its C library asks /etc/hosts first. EngineError."""
        if not NSSWITCH.is_file():
            return None
        path = self._folder / "nsswitch.conf"
        text = names.nsswitch_text(_read(NSSWITCH))
        if not path.exists() or _read(path) != text:
            self._store(path, text)
        return path

    def drop_unused(self, service: str, used: Collection[str]) -> None:
        """Removes the service's files that no process has bound; `used`: the paths of the others."""
        for path in self._folder.glob(f"{service}.*.hosts"):
            # `web.x.hosts` is no file of a service `web.x`: names of services have no dots.
            if str(path) not in used:
                path.unlink(missing_ok=True)

    def _store(self, path: Path, text: str) -> None:
        try:
            files.write(path, text, mode=0o644)  # a service that gives up its rights must still find its peers
        except OSError as error:
            raise EngineError(f"{path} cannot be written: {error.strerror}") from error


def _read(path: Path) -> str:
    """Empty where there is none: a machine without /etc/hosts still resolves the app's names."""
    try:
        return path.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
