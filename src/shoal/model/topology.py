"""Where everything is reached: the addresses of edges, leased once and kept."""

from __future__ import annotations

from dataclasses import dataclass, field

DENIED = "*"
"""The callee of a caller's deny edge: every name that it has not declared leads there."""
EGRESS = ">"
"""The callee of a caller's way out to what its `egress:` names."""
ANYBODY = "@"
"""The caller of edges whose callers nobody can tell apart: the names are in a hosts file that all processes read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A declared call, and the loopback address that stands for it. Who connects there is known to be `caller`."""

    caller: str
    """A service, or `ANYBODY`: then nothing is known."""
    callee: str
    """A service, `DENIED` or `EGRESS`."""
    number: int
    """1 to 65535, leased per app."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeMap:
    """All edges of a running app on this machine."""

    network: int
    """The second byte of its addresses, 1 to 254 (never 0 or 53), leased per running app."""
    edges: dict[tuple[str, str], Edge] = field(default_factory=dict)
    """By (caller, callee)."""
    own: frozenset[str] = frozenset()
    """The callers that have networks of their own, in which 127.x.y.z is theirs."""

    def address(self, caller: str, callee: str) -> str:
        """`127.<network>.<hi>.<lo>`, or `10.78.<hi>.<lo>` for a caller with a network of its own: of the declared edge,
        else of the caller's deny edge. KeyError: neither leased."""
        edge = self.edges.get((caller, callee)) or self.edges[(caller, DENIED)]
        if caller in self.own:
            return f"10.78.{edge.number >> 8}.{edge.number & 0xFF}"
        return f"127.{self.network}.{edge.number >> 8}.{edge.number & 0xFF}"
