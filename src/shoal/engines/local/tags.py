"""What the keeper remembers for us about each process: enough to take it over after a restart of the daemon."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from shoal.model.app import Protocol
from shoal.model.health import HealthCheck
from shoal.model.replica import Address, TcpAddress, UnixAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaTag:
    replica: str
    service: str
    number: int
    """Of its revision."""
    attempt: int
    address: Address | None
    health: str | HealthCheck | None
    """A command in it, and in the two below, has its references filled in."""
    hosts: str | None
    """The hosts file that it has bound."""
    asked_at: float
    """Just before it was started, seconds of the epoch: its log starts here."""
    protocol: Protocol = Protocol.HTTP
    ports: tuple[tuple[str, Protocol, Address], ...] = ()
    """Its further ports, by their names."""
    folder: str = "/"
    """Its working directory."""
    eager: bool = False
    """Somebody waits for it: it is asked again and again while it boots."""
    stop_signal: str = "SIGTERM"

    own_address: str | None = None
    """In its own network, where it has one."""
    way_out: bool = False
    """It is to have a way to the outside from there."""
    mesh: str = ""
    """Which mesh network that hangs on, where it does: the network is dead once there is another."""
    startup: HealthCheck | None = None
    liveness: HealthCheck | None = None
    restart_hung: bool = False
    """Whether one that gives no answer at all is restarted."""
    files: tuple[str, ...] = ()
    """What it has bound at absolute paths."""
    foreground: str = ""
    """How its program stays in the foreground, where that is known."""

    @property
    def commands(self) -> bool:
        """Whether one of its probes is a command."""
        return any(
            isinstance(check, HealthCheck) and check.command for check in (self.health, self.startup, self.liveness)
        )

    @property
    def addresses(self) -> tuple[tuple[str, Address], ...]:
        """Of its further ports, by their names."""
        return tuple((name, address) for name, _, address in self.ports)

    def to_json(self) -> dict[str, object]:
        return {"kind": "replica", **asdict(self)}


def from_json(tag: object) -> ReplicaTag | None:
    """None: no replica's (Envoy's, the daemon's, that of another version of Shoal)."""
    if not isinstance(tag, dict) or tag.get("kind") != "replica":
        return None
    fields: dict[str, Any] = {name: tag[name] for name in ReplicaTag.__dataclass_fields__ if name in tag}
    try:
        if fields["address"] is not None:
            fields["address"] = _address(fields["address"])
        for probe in ("health", "startup", "liveness"):
            if isinstance(check := fields.get(probe), dict):
                fields[probe] = HealthCheck(**check | {"command": tuple(check["command"])})
        fields["protocol"] = Protocol(fields.get("protocol", Protocol.HTTP))
        fields["ports"] = tuple((name, Protocol(how), _address(where)) for name, how, where in fields.get("ports", ()))
        fields["files"] = tuple(fields.get("files", ()))
        known = ReplicaTag(**fields)
        return known if isinstance(known.replica, str) and isinstance(known.attempt, int) else None
    except (TypeError, KeyError, ValueError):
        return None


def _address(plain: dict[str, Any]) -> Address:
    return UnixAddress(**plain) if "path" in plain else TcpAddress(**plain)
