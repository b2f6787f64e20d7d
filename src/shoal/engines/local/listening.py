"""Whether somebody listens on a port, looked up in a table that many probes share."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from shoal.engines.local import ownership

FRESH_S = 0.25
"""How old the table may be. Reading it takes as long as there are sockets on the machine: milliseconds for thousands,
and a thousand probes a second would each read it."""

_tables: dict[Path, tuple[float, frozenset[int]]] = {}


async def ports(proc: Path) -> frozenset[int]:
    """All ports that are listened on in the network that `proc` tells of. Empty: there is no /proc."""
    known = _tables.get(proc)
    now = time.monotonic()
    if known is not None and now - known[0] < FRESH_S:
        return known[1]
    found = frozenset(listener.port for listener in await asyncio.to_thread(ownership.listeners, proc))
    if proc == Path("/proc"):  # those of single replicas come and go, and are shared by nobody
        _tables[proc] = (now, found)
    return found
