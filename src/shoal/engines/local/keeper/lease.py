"""Leases the second byte of an app's loopback addresses, unique among all running apps of all users."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection

PORT = 7077
_NEVER = (0, 53)  # 127.0: everybody's; 127.0.0.53 and 127.53: resolvers


class LeaseError(Exception):
    """Why there is no network, in words."""


class NetworkLease:
    """Holds 127.N.0.1:7077, bound and not listening: the kernel keeps the lease and frees it with our death."""

    def __init__(self) -> None:
        self.network: int | None = None
        self._socket: socket.socket | None = None

    def take(self, prefer: int, avoid: Collection[object]) -> int:
        """The network that is held already unless it is to be avoided; else the first free one of `prefer`, 77 to 254,
        1 to 76. LeaseError: none."""
        if self.network is not None and self.network not in avoid:
            return self.network
        self.release()
        why = ""
        candidates: list[int] = [prefer, *range(77, 255), *range(1, 77)]
        for network in candidates:
            if not 0 < network < 255 or network in _NEVER or network in avoid:
                continue
            lease = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                lease.bind((f"127.{network}.0.1", PORT))
            except OSError as error:
                lease.close()
                if error.errno == errno.EADDRNOTAVAIL:
                    raise LeaseError(f"127.{network}.0.1 is no address of this machine") from error
                why = error.strerror or str(error)
                continue
            self._socket, self.network = lease, network
            return network
        raise LeaseError(
            f"no network 127.N is free: port {PORT} is taken on each ({why}); does something hold 0.0.0.0:{PORT}?"
        )

    def release(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = self.network = None
