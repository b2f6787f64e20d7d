"""Ports for tests that run side by side."""

from __future__ import annotations

import os
import random
import socket

_leases: dict[int, socket.socket] = {}
_RANGE = range(10_240, 20_000)
"""Below the kernel's own range, so that no outgoing connection takes one between its lease and its use."""


def free_port() -> int:
    """A port that nobody listens on, and that no other test process on this machine is given while this one lives.

    The lease is a name in the abstract namespace of Unix sockets: the kernel keeps it, and drops it at our death.
    """
    dice = random.Random(os.urandom(8))
    for _ in range(1000):
        port = dice.choice(_RANGE)
        if port not in _leases and _lease(port) and _is_free(port):
            return port
    raise AssertionError(f"no free port among {_RANGE}")


def release_ports() -> None:
    while _leases:
        _leases.popitem()[1].close()


def _lease(port: int) -> bool:
    lease = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lease.bind(f"\0shoal-test-port-{port}")
    except OSError:
        lease.close()
        return False
    _leases[port] = lease
    return True


def _is_free(port: int) -> bool:
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with socket.socket(family) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
