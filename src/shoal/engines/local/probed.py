"""What the probes of one replica need to know of it, and whom they ask."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shoal.engines.local.networks.reach import Reach
from shoal.engines.local.probe import Ask, Target
from shoal.engines.local.probe_budget import Cost
from shoal.model.app import Protocol
from shoal.model.health import HealthCheck, Pace, Probe
from shoal.model.replica import Address
from shoal.planner.probing import pace


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A replica that runs."""

    replica: str
    attempt: int
    pid: int
    address: Address | None
    """None: a worker."""
    health: str | HealthCheck | None
    startup: HealthCheck | None = None
    liveness: HealthCheck | None = None
    restart_hung: bool = False
    """Without `liveness`: one that gives no answer at all is told as one that fails it."""
    protocol: Protocol = Protocol.HTTP
    ports: tuple[tuple[str, Protocol, Address], ...] = ()
    """Its further ports, by their names."""
    eager: bool = False
    """Somebody waits for it."""
    found: bool = False
    """It ran before we did: it may have been ready for long, or hang since."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Its variables, for commands."""
    folder: str = "/"
    reach: Reach | None = None
    """How to get into its own network, where it has one."""

    @property
    def readiness(self) -> HealthCheck:
        return self.health if isinstance(self.health, HealthCheck) else HealthCheck(path=self.health)

    @property
    def share(self) -> float:
        """0 to 1, its own: so that a thousand replicas that started together are not asked together."""
        return zlib.crc32(self.replica.encode()) / 2**32

    def targets(self) -> dict[str, Target]:
        """Each port by its name (empty: the main one), asked in its own protocol."""
        ports = {name: (protocol, address) for name, protocol, address in self.ports}
        if self.address is not None:
            ports[""] = (self.protocol, self.address)
        return {
            name: Target(address=address, health=None, session=self.pid, protocol=protocol, reach=self.reach)
            for name, (protocol, address) in ports.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One probe of a replica: what is asked, whom, and how often."""

    probe: Probe
    check: HealthCheck
    pace: Pace
    target: Target | None
    """None: a command is run."""
    quiet: Target | None
    """The same, asked with less noise: once it is known to answer."""
    ask: Ask

    @property
    def cost(self) -> Cost:
        if self.target is None:
            return Cost.COMMAND
        if self.target.health is None and self.target.protocol is Protocol.GRPC:
            return Cost.GRPC
        return Cost.LISTENS if self.target.protocol is Protocol.TCP else Cost.HTTP


def question(probed: Probed, probe: Probe, check: HealthCheck | None) -> Question | None:
    """None: nothing is to be asked, or there is no such port."""
    if check is None:
        return None
    target = None if check.command else _asked(probed.targets().get(check.port), check)
    if target is None and not check.command:
        return None
    return Question(
        probe=probe,
        check=check,
        pace=pace(check, probe),
        target=target,
        quiet=None if target is None else replace(target, quiet=True),
        ask=Ask(argv=check.command, env=probed.env, folder=probed.folder),
    )


def _asked(target: Target | None, check: HealthCheck) -> Target | None:
    if target is None:
        return None
    protocol = Protocol.GRPC if check.grpc else Protocol.TCP if check.tcp else target.protocol
    return replace(target, health=check.path, host=check.host, protocol=protocol, strict=check.grpc)
