"""What services keep their data in: databases, message brokers, caches."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    POSTGRES = "postgres"
    NATS = "nats"
    REDIS = "redis"
    MONGODB = "mongodb"

    @property
    def port(self) -> int:
        """The number that its clients know."""
        return _PORTS[self]


_PORTS = {Kind.POSTGRES: 5432, Kind.NATS: 4222, Kind.REDIS: 6379, Kind.MONGODB: 27017}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """The workload of a service that is such a server: one process, its own folder of data, a port of 127.0.0.1 that
    stays the same."""

    kind: Kind
    image: str = ""
    """A container's image. Empty: a program of this machine, or of a wheel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One resource, as the service that uses it knows it."""

    name: str
    kind: Kind
    url: str = ""
    """Of a server that Shoal does not run; may name secrets. Empty: the app's own resource `name`."""


class Keeping(StrEnum):
    POSTGRES = "postgres"
    SQLITE = "sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """`database:` a service's own database."""

    keeping: Keeping
    owner: str
    """Whose it is: the service itself, or another one that lets a job see its data."""
    use: Use | None = None
    """Where it is. None: SQLite's file."""
