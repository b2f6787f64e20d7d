"""Where the files of an app live. Names only; nothing here creates or opens one.

Stdlib only: the keeper and the command line read it before anything else is imported.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StateFolder:
    """`.shoal/` beside the app file (0700), and the folder of its sockets, which must have short names.

    Unix socket paths end at 107 bytes on Linux (103 on macOS), and an app may live in a folder with a longer name than
    that. So sockets live below `$XDG_RUNTIME_DIR/shoal/` or `/tmp/shoal-<uid>/`, named by a hash of the state folder.
    """

    root: Path

    @classmethod
    def beside(cls, app_folder: Path) -> StateFolder:
        return cls(app_folder.resolve() / ".shoal")

    @property
    def database(self) -> Path:
        return self.root / "state.db"

    @property
    def gate(self) -> Path:
        """Locked by a `shoal up` that still reads its file: the daemon waits (`engines.local.gate`)."""
        return self.root / "daemon.gate"

    @property
    def logs(self) -> Path:
        """`<service>/<replica>.log` of replicas; `daemon.log`, `envoy.log`, `keeper.log` of Shoal's own."""
        return self.root / "logs"

    @property
    def processes(self) -> Path:
        """The keeper's memory: one small JSON file and one FIFO a process."""
        return self.root / "processes"

    @property
    def environments(self) -> Path:
        return self.root / "envs"

    @property
    def sources(self) -> Path:
        """Snapshots of source trees, by digest."""
        return self.root / "sources"

    @property
    def builds(self) -> Path:
        """The folders that replicas start in: copies of snapshots, with what was built."""
        return self.root / "builds"

    @property
    def leftovers(self) -> Path:
        """What programs wrote beside their code, of revisions that are gone."""
        return self.root / "leftovers"

    @property
    def data(self) -> Path:
        """`SHOAL_DATA_DIR` of each service: what outlives a revision."""
        return self.root / "data"

    @property
    def hosts(self) -> Path:
        """The private `/etc/hosts` of each service, and the `nsswitch.conf`."""
        return self.root / "hosts"

    @property
    def files(self) -> Path:
        """Contents that services find at absolute paths, by their digests."""
        return self.root / "files"

    @property
    def envoy(self) -> Path:
        """Envoy's bootstrap."""
        return self.root / "envoy"

    @property
    def run(self) -> Path:
        """The folder of sockets, 0700, owner checked (see `run_base`)."""
        digest = hashlib.blake2b(os.fsencode(self.root), digest_size=6).hexdigest()
        return run_base() / digest

    @property
    def keeper_socket(self) -> Path:
        return self.run / "keeper.sock"

    @property
    def api_socket(self) -> Path:
        return self.run / "api.sock"

    @property
    def xds_socket(self) -> Path:
        return self.run / "xds.sock"

    @property
    def mesh_socket(self) -> Path:
        """Envoy listens here for `shoal call`: every service, by its name in the Host header."""
        return self.run / "mesh.sock"

    @property
    def envoy_admin_socket(self) -> Path:
        return self.run / "envoy-admin.sock"

    @property
    def own_envoy_admin_socket(self) -> Path:
        """Of the Envoy in the mesh network, which serves replicas with networks of their own."""
        return self.run / "own-admin.sock"

    @property
    def network_socket(self) -> Path:
        """Where the process that holds the mesh network gives out sockets of it."""
        return self.run / "network.sock"

    def replica_socket(self, replica: str) -> Path:
        """A service's name has up to 63 characters, the whole path up to 103: a long one is replaced by its hash."""
        path = self.run / f"{replica}.sock"
        if len(os.fsencode(path)) > 100:
            path = self.run / f"{hashlib.blake2b(replica.encode(), digest_size=8).hexdigest()}.sock"
        return path


def run_base() -> Path:
    """`$XDG_RUNTIME_DIR/shoal`, else `/tmp/shoal-<uid>`. Who creates it makes it 0700 and refuses a link or another
    owner."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime) / "shoal"
    return Path("/tmp") / f"shoal-{os.getuid()}"
