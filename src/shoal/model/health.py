"""What is asked of a replica, how often, and what the answers count for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Probe(StrEnum):
    """The three questions, by what a failure of each leads to; Kubernetes' words."""

    STARTUP = "startup"
    """Has it started? The two others wait for its success; failed for good, the replica is restarted."""
    READINESS = "readiness"
    """Should it get requests now? Failed: it is out of Envoy until it succeeds again; never restarted for that."""
    LIVENESS = "liveness"
    """Can only a restart help? Failed: out of Envoy, then restarted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How one of them is found out, where a path alone does not say it. Exactly one of `path`, `grpc`, `tcp`,
    `command`, or none of them: the port answers its protocol. Numbers that are None are the probe's defaults."""

    path: str | None = None
    """Answers 200 to 399 when well."""
    grpc: bool = False
    """The gRPC health service says SERVING."""
    tcp: bool = False
    """The port accepts a connection, whatever is spoken there."""
    command: tuple[str, ...] = ()
    """Ends with 0 when well. One given as a string has become `("/bin/sh", "-c", string)`."""
    port: str = ""
    """Name of the port that is asked; empty: the main one."""
    host: str = "localhost"
    """The Host header of an HTTP request."""
    interval_s: float | None = None
    """From an answer to the next question."""
    timeout_s: float | None = None
    """How long an answer may take."""
    failures: int | None = None
    """So many in a row count."""
    successes: int | None = None
    """So many in a row count; always 1 but for readiness."""
    delay_s: float | None = None
    """From the start of the process to the first question."""

    def __str__(self) -> str:
        where = f" on port {self.port}" if self.port else ""
        if self.command:
            shell = self.command[:2] == ("/bin/sh", "-c")
            return f"command {self.command[2] if shell else ' '.join(self.command)}"
        if self.grpc:
            return f"gRPC health{where}"
        if self.tcp:
            return f"accepts a connection{where}"
        return f"{self.path or 'answers its protocol'}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The numbers of one probe, with its defaults filled in."""

    interval_s: float
    timeout_s: float
    failures: int
    successes: int
    delay_s: float
    written: bool = False
    """Whether the interval is the user's: then it is kept, however many replicas there are."""

    def __str__(self) -> str:
        parts = [f"every {self.interval_s:g} s", f"timeout {self.timeout_s:g} s", f"{self.failures} failures"]
        if self.successes != 1:
            parts.append(f"{self.successes} successes")
        if self.delay_s:
            parts.append(f"after {self.delay_s:g} s")
        return ", ".join(parts)
