"""Whether somebody listens on a port, looked up in a table that many probes share."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from shoal.engines.local import ownership

FRESH_S = 0.25
"""How old the table may be, at the least."""
SHARE = 0.02
"""Of one core: so much may be spent on reading it. The kernel walks all of its hash table for it, twice: 12 ms on a
machine of 150 sockets, 19 ms at 1,800. There it is 0.6 to 1 s old at the most; at 0.25 s it took 5 to 8 % of a core."""


@dataclass(frozen=True, slots=True)
class _Table:
    ports: frozenset[int]
    stale_at: float
    """`time.monotonic`."""


_tables: dict[Path, _Table] = {}
_reading: set[Path] = set()


async def ports(proc: Path) -> frozenset[int]:
    """All ports that are listened on in the network that `proc` tells of. Empty: there is no /proc."""
    known = _tables.get(proc)
    # While one reads, the others make do with the old table: each of them would read it once more.
    if known is not None and (time.monotonic() < known.stale_at or proc in _reading):
        return known.ports
    _reading.add(proc)
    try:
        read = await asyncio.to_thread(_read, proc)
    finally:
        _reading.discard(proc)
    if proc == Path("/proc"):  # those of single replicas come and go, and are shared by nobody
        _tables[proc] = read
    return read.ports


def _read(proc: Path) -> _Table:
    began = time.thread_time()
    found = frozenset(listener.port for listener in ownership.listeners(proc))
    took_s = time.thread_time() - began
    return _Table(found, time.monotonic() + max(FRESH_S, took_s / SHARE))
