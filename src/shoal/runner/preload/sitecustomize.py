"""Imported by Python before a service's own code (it is first on PYTHONPATH): a server that binds the port that its
service declares, hard-coded, gets 127.0.0.1:$PORT instead, so that several replicas run side by side.

`SHOAL_MOVE_PORTS=3000:41233,9000:41234`. Any Python from 3.6 on; a `sitecustomize` of the environment's own still runs.
"""

import os
import sys


def _move_ports(text: str) -> None:
    import socket

    moves = {}
    for pair in text.split(","):
        declared, _, own = pair.partition(":")
        moves[int(declared)] = int(own)

    plain = socket.socket

    def bind(self: socket.socket, address: object) -> None:
        port = moves.get(address[1]) if isinstance(address, tuple) and len(address) > 1 else None
        if port is not None and self.family == socket.AF_INET:
            address = ("127.0.0.1", port)
        elif port is not None and self.family == socket.AF_INET6:
            # Servers open either one socket for both families, or one for each: then this is the second.
            alone = self.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            address = ("::1" if alone else "::ffff:127.0.0.1", port)
        super(plain, self).bind(address)  # type: ignore[arg-type]

    plain.bind = bind  # type: ignore[assignment,method-assign]


def _next_sitecustomize(here: str) -> None:
    """The one that this file hides, if there is one."""
    import importlib.machinery
    import importlib.util

    path = [place for place in sys.path if os.path.abspath(place or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if os.environ.get("SHOAL_MOVE_PORTS"):
    _move_ports(os.environ["SHOAL_MOVE_PORTS"])
_next_sitecustomize(os.path.dirname(os.path.abspath(__file__)))
