"""TCP ports for `command:` replicas, below those that the kernel gives to outgoing connections.

A port that the kernel chose could be taken by an outgoing connection between two starts of a replica.
"""

from __future__ import annotations

import errno
import hashlib
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

from shoal.errors import EngineError

FIRST = 20_000
WIDTH_MIN = 1_000
"""With fewer ports than this below the kernel's own range, others are used."""


class PortLeases:
    """Which replica of this engine holds which port. No port has two holders.

    `seed` (the state folder) decides where the search begins, so that two apps seldom try the same port at once. Each
    lease continues after the last: a port that somebody else grabbed is not tried again at once.
    """

    def __init__(self, seed: str, ports: range | None = None) -> None:
        self._ports = ports if ports is not None else lease_range(kernel_range())
        digest = hashlib.blake2b(seed.encode("utf-8", "surrogateescape"), digest_size=4).digest()
        self._next = int.from_bytes(digest, "big") % len(self._ports)
        self._held: dict[str, int] = {}

    def lease(self, replica: str, *, avoid: Collection[int] = ()) -> int:
        """A port that nobody listens on; replaces the replica's former one. EngineError: all are taken."""
        self.release(replica)
        taken = set(self._held.values()) | set(avoid)
        for port in self._candidates():
            if port not in taken and is_free(port):
                self._held[replica] = port
                return port
        raise EngineError(
            f"no free port for {replica} between {self._ports.start} and {self._ports.stop - 1}",
            way_out="stop what listens there, or run fewer replicas",
        )

    def adopt(self, replica: str, port: int) -> None:
        """A replica that runs on since an earlier daemon keeps its port."""
        self._held[replica] = port

    def release(self, replica: str) -> None:
        self._held.pop(replica, None)

    def release_further(self, replica: str) -> None:
        """The leases under `<replica>:<name>`."""
        for name in [name for name in self._held if name.startswith(f"{replica}:")]:
            del self._held[name]

    def _candidates(self) -> Iterator[int]:
        for _ in self._ports:
            port = self._ports[self._next]
            self._next = (self._next + 1) % len(self._ports)
            yield port


def kernel_range() -> tuple[int, int]:
    """First and last port for outgoing connections."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii")
        first, last = text.split()
        return int(first), int(last)
    except (OSError, ValueError):
        return 32_768, 60_999


def lease_range(kernel: tuple[int, int]) -> range:
    """FIRST to just below the kernel's range; where that leaves too little, below FIRST, then above the kernel's."""
    first, last = kernel
    for start, stop in ((FIRST, first), (10_000, min(FIRST, first)), (max(last + 1, 10_000), 65_536)):
        if stop - start >= WIDTH_MIN:
            return range(start, stop)
    return range(FIRST, 32_768)  # the kernel has it all; is_free decides


def is_free(port: int) -> bool:
    """Whether it can be bound on every address: a service may listen on 127.0.0.1, 0.0.0.0 or [::]."""
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                continue  # a machine without IPv6
            return False
    return True
