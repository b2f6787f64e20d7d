"""What the user wants: an app of services behind a gateway."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonApp:
    """`run:` an ASGI or WSGI application, found by importing `module` inside the replica and taking `attribute`."""

    module: str
    attribute: str

    @property
    def target(self) -> str:
        return f"{self.module}:{self.attribute}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`command:` a program in any language; `$PORT` and `${port}` stand for the port that it should listen on.

    A command given as a string has become `("/bin/sh", "-c", string)`.
    """

    argv: tuple[str, ...]


class Names(StrEnum):
    """How a service's processes find the others."""

    AUTO = "auto"
    """By name, through a private `/etc/hosts`, where the machine can do it; else as ENV."""
    ENV = "env"
    """By the variables `X_URL`, `X_HOST`, `X_PORT` alone; the process starts in no namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service, as written. All references are filled in but those known only at start (`${x.url}`, `${port}`)."""

    name: str
    """A DNS-1123 label: lower case letters, digits and `-`, at most 63."""
    workload: PythonApp | Command
    folder: str
    """Absolute: the working directory of its processes."""
    port: int | None = None
    """Its stable port in the mesh, 1 to 65535. None: a worker, which nobody can call."""
    publish: bool = False
    """Whether `port` is also bound on 127.0.0.1 and [::1]."""
    replicas: int = 1
    env: tuple[tuple[str, str], ...] = ()
    """What the user set; wins over everything that Shoal injects."""
    health: str | None = None
    """Path that answers 200 to 399 when ready. None: ready = answers its protocol."""
    calls: tuple[str, ...] = ()
    """The services it may call by name."""
    after: tuple[str, ...] = ()
    """Services that have a ready replica before this one starts."""
    names: Names = Names.AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One entry of the gateway: requests for `host` (None: any) whose path is `path` or below it go to `service`."""

    service: str
    path: str
    """Starts with `/`; `/users` matches `/users` and `/users/7`, not `/users2`."""
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The front door: one port, many services. The longest path wins; a route with a host beats one without."""

    port: int
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A whole app file, valid: every name it mentions exists, no published port is claimed twice."""

    name: str
    services: tuple[Service, ...]
    """In the file's order."""
    gateway: Gateway | None = None
    folder: str = "."
    """Absolute: where the app file is, and `.shoal/` beside it."""

    def service(self, name: str) -> Service:
        """Raises KeyError when the app has no such service."""
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(name)
