"""What the user wants: an app of services behind a gateway."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shoal.model.draining import DEFAULT_DRAINING, Draining
from shoal.model.health import HealthCheck as HealthCheck
from shoal.model.migration import Migration
from shoal.model.policy import DEFAULT_ROLLOUT, RolloutPolicy
from shoal.model.resources import Database, Resource, Use
from shoal.model.surroundings import GivenFile, Static, Volume
from shoal.model.traffic import NOTHING, Policy


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


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """`external:` a name in the mesh for something that Shoal does not run."""

    host: str
    """A host name, or an IP address without brackets."""
    port: int
    tls: bool = False
    """It is spoken to over TLS, and has to show a certificate for `sni`."""
    sni: str = ""
    """With TLS: the name that it is asked for. Empty: `host`."""
    ca: str = ""
    """With TLS: the absolute path of the authorities that are believed. Empty: the machine's."""

    @property
    def authority(self) -> str:
        """As it stands in the `Host` of a request: without the port that HTTPS has anyhow."""
        return str(self).removesuffix(":443") if self.tls else str(self)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Protocol(StrEnum):
    """What is spoken on a port."""

    HTTP = "http"
    """HTTP/1.1 towards the replica, HTTP/2 for gRPC alone; callers may use either."""
    GRPC = "grpc"
    """HTTP/2 towards the replica, whatever the caller speaks."""
    TCP = "tcp"
    """Bytes: no routes, no retries once connected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One port of a service in the mesh."""

    name: str
    """A DNS-1123 label, unique in its service; empty for a main port that was written as `port:`."""
    number: int
    protocol: Protocol = Protocol.HTTP
    publish: bool = False
    """Whether it is also bound on 127.0.0.1 and [::1]."""


class Names(StrEnum):
    """How a service's processes find the others."""

    AUTO = "auto"
    """By name, through a private `/etc/hosts`, where the machine can do it; else as ENV."""
    ENV = "env"
    """By the variables `X_URL`, `X_HOST`, `X_PORT` alone; the process starts in no namespace."""


class Restart(StrEnum):
    """Whether a process that ended by itself is started again."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    """Not after exit code 0: then it has completed."""
    NEVER = "never"


class Barrier(StrEnum):
    """What a service in `after:` must have come to."""

    STARTED = "started"
    """One of its replicas has a process, or had one."""
    READY = "ready"
    """One of its replicas is ready."""
    COMPLETED = "completed"
    """All of its replicas have ended with exit code 0."""


class Network(StrEnum):
    """In which network a service's processes run."""

    HOST = "host"
    """The machine's: each listens on a port that Shoal chooses, `$PORT`."""
    OWN = "own"
    """One for each replica: it may listen on any port, and reaches nothing but the services that it may call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`jobs:` a service that runs now and then, to its end, one process at a time."""

    schedule: str = ""
    """Five fields, as in a crontab, of local time. Empty: only when somebody asks."""
    timeout_s: float | None = None
    """After which it is ended, and has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service, as written. All references are filled in but those known only at start (`${x.url}`, `${port}`)."""

    name: str
    """A DNS-1123 label: lower case letters, digits and `-`, at most 63."""
    workload: PythonApp | Command | External | Static | Resource
    folder: str
    """Absolute: the working directory of its processes."""
    port: int | None = None
    """Its stable main port in the mesh, 1 to 65535. None: a worker, which nobody can call."""
    publish: bool = False
    """Whether `port` is also bound on 127.0.0.1 and [::1]."""
    replicas: int = 1
    env: tuple[tuple[str, str], ...] = ()
    """What the user set; wins over everything that Shoal injects."""
    env_files: tuple[str, ...] = ()
    """The files that some of `env` was read from, as written; only told, never read again."""
    health: str | HealthCheck | None = None
    """Readiness. Text: the path that answers 200 to 399 when ready. None: ready = answers its protocol."""
    startup: HealthCheck | None = None
    """None: nothing is asked before readiness."""
    liveness: HealthCheck | None = None
    """None: it is restarted when it hangs, as `restart_hung` says."""
    restart_hung: bool = True
    """Without `liveness`, whether one that gives no answer at all is restarted; `liveness: off` is False."""
    build: tuple[str, ...] | None = None
    """What is run once in each revision, before its first replica. Empty: nothing. None: what its lock file asks for.
    One given as a string has become `("/bin/sh", "-c", string)`."""
    calls: tuple[str, ...] = ()
    """The services it may call by name."""
    after: tuple[str, ...] = ()
    """Services that this one waits for before its first start: for a ready replica, where `barriers` has nothing."""
    barriers: tuple[tuple[str, Barrier], ...] = ()
    """Those of `after` that are waited for until something else than READY."""
    restart: Restart = Restart.ALWAYS
    stop_signal: str = "SIGTERM"
    """What asks its processes to end."""
    job: Job | None = None
    """It is no service that always runs: `replicas` is 0, `restart` NEVER, and there is no port."""
    names: Names = Names.AUTO
    protocol: Protocol = Protocol.HTTP
    """What is spoken on `port`."""
    port_name: str = ""
    """Of `port`, where it was written in `ports:`."""
    ports: tuple[Port, ...] = ()
    """Further ports; none without `port`."""
    rewrite_host: str | None = None
    """The Host header that its replicas are sent. None: the caller's own."""
    traffic: Policy = NOTHING
    """How requests to it are treated, whoever makes them."""
    edges: tuple[tuple[str, Policy], ...] = ()
    """Callee -> how its own requests to that service are treated instead; only those of `calls` that say so."""

    network: Network = Network.HOST
    listen: int | None = None
    """With a network of its own: where its process listens for `port`. None: on that number."""
    loopback: bool = False
    """It listens on 127.0.0.1 of its own network alone."""
    egress: tuple[str, ...] | None = None
    """With a network of its own: where it may connect outside the app, `host:port` or `*.host:port`. None: not said,
    so that it may connect to everything where the machine has a way (pasta)."""
    rollout: RolloutPolicy = DEFAULT_ROLLOUT
    """How its replicas are replaced."""
    files: tuple[GivenFile, ...] = ()
    volumes: tuple[Volume, ...] = ()
    python: str = ""
    """The version that it needs, as `3.12` or `3.12.1`. Empty: what its folder asks for."""
    node: str = ""
    draining: Draining = DEFAULT_DRAINING
    """How they leave."""
    database: Database | None = None
    migrate: Migration | None = None
    uses: tuple[Use, ...] = ()
    """Resources that it finds by variables."""
    secret_files: tuple[tuple[str, str], ...] = ()
    """Secrets that it finds in files: name -> the variable that has the path."""

    @property
    def every_port(self) -> tuple[Port, ...]:
        """The main port first; empty for a worker."""
        if self.port is None:
            return ()
        main = Port(name=self.port_name, number=self.port, protocol=self.protocol, publish=self.publish)
        return (main, *self.ports)

    def barrier(self, other: str) -> Barrier:
        """What `other`, one of `after`, is waited for."""
        return dict(self.barriers).get(other, Barrier.READY)

    def edge(self, callee: str) -> Policy:
        """What it says of its calls to `callee`."""
        return dict(self.edges).get(callee, NOTHING)

    @property
    def resources(self) -> tuple[str, ...]:
        """Those of the app that it needs, its database's first."""
        database = self.database.use if self.database is not None else None
        used = (database, *self.uses) if database is not None else self.uses
        return tuple(dict.fromkeys(use.name for use in used if not use.url))

    @property
    def is_external(self) -> bool:
        return isinstance(self.workload, External)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One entry of the gateway: requests for `host` (None: any) whose path is `path` or below it go to `service`."""

    service: str
    path: str
    """Starts with `/`; `/users` matches `/users` and `/users/7`, not `/users2`."""
    host: str | None = None
    port: str = ""
    """Name of the service's port; empty: the main one."""
    rewrite: str | None = None
    """What stands in the place of `path` in what the service sees; `/` takes it away. None: nothing is changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The front door: one port, many services. The longest path wins; a route with a host beats one without."""

    port: int
    routes: tuple[Route, ...]
    trusted_proxies: tuple[str, ...] = ()
    """Networks, as `10.0.0.0/8`: who connects from there is believed about whom it passes on (`x-forwarded-*`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A whole app file, valid: every name it mentions exists, no published port is claimed twice."""

    name: str
    services: tuple[Service, ...]
    """In the file's order."""
    gateway: Gateway | None = None
    folder: str = "."
    """Absolute: where the app file is, and `.shoal/` beside it."""
    dev: bool = False
    """`shoal dev`: a person waits for each change. New replicas take over as soon as they are ready, code that does not
    start is not tried again while the older one serves, and a debugger may stop a request for as long as it likes."""

    secrets: tuple[tuple[str, int], ...] = ()
    """Those that are declared: name -> how many bytes of chance it is made of when nobody has set it; 0: it is not."""

    def service(self, name: str) -> Service:
        """Raises KeyError when the app has no such service."""
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(name)
