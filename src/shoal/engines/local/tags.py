"""What the keeper remembers for us about each process: enough to take it over after a restart of the daemon."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from shoal.model.replica import Address, TcpAddress, UnixAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaTag:
    replica: str
    service: str
    number: int
    """Of its revision."""
    attempt: int
    address: Address | None
    health: str | None
    hosts: str | None
    """The hosts file that it has bound."""
    asked_at: float
    """Just before it was started, seconds of the epoch: its log starts here."""

    def to_json(self) -> dict[str, object]:
        plain = asdict(self)
        match self.address:
            case UnixAddress(path=path):
                plain["address"] = {"path": path}
            case TcpAddress(host=host, port=port):
                plain["address"] = {"host": host, "port": port}
            case None:
                pass
        return {"kind": "replica", **plain}


def from_json(tag: object) -> ReplicaTag | None:
    """None: no replica's (Envoy's, the daemon's, that of another version of Shoal)."""
    if not isinstance(tag, dict) or tag.get("kind") != "replica":
        return None
    fields: dict[str, Any] = {name: tag.get(name) for name in ReplicaTag.__dataclass_fields__}
    try:
        address = fields["address"]
        if address is not None:
            fields["address"] = UnixAddress(**address) if "path" in address else TcpAddress(**address)
        known = ReplicaTag(**fields)
        return known if isinstance(known.replica, str) and isinstance(known.attempt, int) else None
    except TypeError:
        return None
