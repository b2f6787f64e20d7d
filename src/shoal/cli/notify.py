"""sd_notify(3): telling a service manager how far we are. Does nothing where no `NOTIFY_SOCKET` is set."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Sends lines such as `READY=1` and `STATUS=3 services ready`. Whether somebody was told; never raises: a manager
    that does not listen is no reason to stop."""
    address = environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    target = "\0" + address[1:] if address[0] == "@" else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
        try:
            link.connect(target)
            link.send("\n".join(lines).encode())
        except OSError:
            return False
    return True
