"""A change of a database's schema that comes with a revision."""

from __future__ import annotations

from dataclasses import dataclass

DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """Runs once for each revision, after its build and before its first replica."""

    command: tuple[str, ...]
    """One given as a string has become `("/bin/sh", "-c", string)`."""
    timeout_s: float = DEADLINE_S
    reversible: tuple[str, ...] = ()
    """What undoes it. Empty: nothing that anybody knows of."""


def words(command: tuple[str, ...]) -> str:
    """As a person wrote it."""
    return command[2] if command[:2] == ("/bin/sh", "-c") else " ".join(command)


SUCCEEDED, FAILED = "succeeded", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationRun:
    """One that has ended."""

    revision: int
    command: str
    database: str
    """Which one, so that another in its place is migrated anew: a text that changes when it does."""
    started_at: float
    ended_at: float
    outcome: str
    """`succeeded` or `failed`."""
    reason: str
    """Why it failed."""
    log: str
    """The path of what it printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationList:
    service: str
    command: str
    """As it is now; empty: none."""
    runs: tuple[MigrationRun, ...]
    """The last 500, oldest first."""
