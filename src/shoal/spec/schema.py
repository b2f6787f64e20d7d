"""The app file's keys: pydantic models for each value alone, and the JSON Schema made from them.

What needs a look at two places of the file (references, ports, cycles), and what is missing, is in `spec.check`: so a
file that lacks one thing is still looked at for others. A key exists here only when it works.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from shoal.model import cron
from shoal.spec.around import GivenFiles, NodeVersion, PythonVersion, SharedVolumes, Static, Volumes
from shoal.spec.building import Build
from shoal.spec.draining import LeaveTime
from shoal.spec.egress import Egress
from shoal.spec.migrating import Migrate
from shoal.spec.outside import Outside
from shoal.spec.pace import Delay, Pause, Times
from shoal.spec.resources import DatabaseKey, ResourceFile, Uses
from shoal.spec.rolling import RolloutFile
from shoal.spec.secrets import GivenSecrets, Secrets
from shoal.spec.strict import Strict as _Strict
from shoal.spec.strict import wrong
from shoal.spec.traffic import Calls, TrafficKeys

JSON_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_REPLICAS = 100
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_RUN = r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*$"


def is_label(text: str) -> bool:
    """Whether it is a DNS-1123 label: lower case letters, digits and `-`, not at the ends, at most 63."""
    return re.fullmatch(_LABEL, text) is not None


def check_run(value: object) -> object:
    """Gives a `module:attribute` back; raises PydanticCustomError, with `message` and `way_out` in its context."""
    if not isinstance(value, str):
        raise wrong("must be text like shop.users:app", "name the module and the application in it")
    module, colon, attribute = value.partition(":")
    if "/" in module or module.endswith(".py"):
        better = module.removeprefix("./").removesuffix(".py").strip("/").replace("/", ".")
        raise wrong("is a path, and a module's name is needed", f"write {better}:{attribute or 'app'}")
    if not colon:
        raise wrong("does not say which object of the module is the application", f"write {value or 'module'}:app")
    words = [*module.split("."), attribute]
    if not all(word.isidentifier() and not keyword.iskeyword(word) for word in words):
        raise wrong("is no module and attribute", "write it like shop.users:app")
    return value


def _command(value: object) -> object:
    if isinstance(value, str):
        if not value.strip():
            raise wrong("is empty", "write a command line, or a list of the program and its arguments")
        return value
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise wrong("must be text, or a list of texts", "put numbers in quotes: ['server', '--workers', '4']")
    if not value or not value[0].strip():
        raise wrong("names no program", "the first item is the program")
    return value


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise wrong("must be text")
    return value


def _folder(value: object) -> object:
    if not isinstance(value, str) or not value:
        raise wrong("must be a folder, absolute or relative to the app file's")
    return value


def _whole(least: int, most: int) -> BeforeValidator:
    def check(value: object) -> object:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            hint = "write it without quotes" if isinstance(value, str) and value.strip().isdigit() else ""
            raise wrong(f"must be a whole number from {least} to {most}", hint)
        return value

    return BeforeValidator(check)


def _flag(value: object) -> object:
    if not isinstance(value, bool):
        hint = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(str(value).lower(), "")
        raise wrong("must be true or false", f"did you mean {hint}?" if hint else "")
    return value


def _variable(value: object) -> object:
    if value is None:
        raise wrong("has no value", "write '' for an empty one, ${NAME} to pass on one of your own")
    if not isinstance(value, str | int | float):
        raise wrong("must be text, a number, true or false")
    return value


def _names_of_services(value: object) -> object:
    if isinstance(value, str):
        raise wrong("must be a list of services", f"write [{value}]")
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise wrong("must be a list of services")
    return value


def _path(value: object) -> object:
    if not isinstance(value, str) or not value.startswith("/"):
        hint = f"write /{value}" if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) else ""
        raise wrong("must be a path that starts with /", hint)
    if not value.isascii() or not value.isprintable() or " " in value or "#" in value:
        raise wrong("must be a path as it stands in a request: ASCII, no spaces, no #")
    return value


def _health(value: object) -> object:
    """A path, `grpc`, `tcp`, or a mapping: always a mapping afterwards."""
    if isinstance(value, dict | HealthFile):
        return value
    return {value: True} if value in ("grpc", "tcp") else {"path": _path(value)}


def _liveness(value: object) -> object:
    """The same, or `off`."""
    if value is False:
        raise wrong("must be a path, grpc, tcp, off, or a mapping", "write off")
    return OFF if value == "off" else _health(value)


def _mapping_of(key: str) -> Callable[[object], object]:
    """A value alone stands for a mapping with this key."""

    def normal(value: object) -> object:
        return value if isinstance(value, dict) else {key: value}

    return normal


def _protocol(value: object) -> object:
    if value not in ("http", "grpc", "tcp"):
        hint = {"h2c": "grpc", "http2": "grpc", "ws": "http", "websocket": "http", "https": "http"}.get(str(value), "")
        raise wrong("must be http, grpc or tcp", f"did you mean {hint}?" if hint else "")
    return value


def _host_header(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._\[\]:-]+", value):
        raise wrong("must be a host as it stands in a request, such as localhost or example.com:8080")
    return value


def network_of(value: object) -> str:
    """An address or a network as `10.0.0.0/8`; raises PydanticCustomError, with `message` and `way_out`."""
    try:
        if not isinstance(value, str):
            raise ValueError
        return str(ip_network(value, strict=False))
    except ValueError:
        raise wrong("must be an IP address or a network", "write it like 127.0.0.1 or 10.0.0.0/8") from None


def _mode(value: object) -> object:
    if value not in ("auto", "env"):
        raise wrong("must be auto or env")
    return value


def _network(value: object) -> object:
    if value not in ("host", "own"):
        raise wrong("must be host or own")
    return value


def _listen(value: object) -> object:
    """A port, or one of 127.0.0.1."""
    host, colon, port = str(value).rpartition(":")
    if isinstance(value, bool) or (isinstance(value, str) and (host, colon) != ("127.0.0.1", ":")):
        raise wrong("must be a port, or 127.0.0.1 and a port", "write it like 9080, or 127.0.0.1:9080")
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise wrong("has no port from 1 to 65535", "write it like 9080, or 127.0.0.1:9080")
    return value


_LISTEN: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        {"type": "string", "pattern": r"^127\.0\.0\.1:[1-9][0-9]{0,4}$"},
    ]
}


def _files(value: object) -> object:
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name and "\0" not in name for name in names):
        raise wrong("must be a file, or a list of files", "name them relative to the app file's folder")
    return value


BARRIERS = ("started", "ready", "completed")
RESTARTS = ("always", "on-failure", "never")
STOP_SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGKILL")


def _after(value: object) -> object:
    if not isinstance(value, dict):
        return _names_of_services(value)
    for other, barrier in value.items():
        if barrier not in BARRIERS:
            raise wrong(f"'{other}' must be {' or '.join(BARRIERS)}")
    return value


def _restart(value: object) -> object:
    if value not in RESTARTS:
        hints = {"no": "never", "unless-stopped": "always", "False": "never"}
        near = hints.get(str(value), "")
        raise wrong(f"must be {', '.join(RESTARTS[:-1])} or {RESTARTS[-1]}", f"did you mean {near}?" if near else "")
    return value


def _stop_signal(value: object) -> object:
    if value not in STOP_SIGNALS:
        hint = f"write SIG{value}" if f"SIG{value}" in STOP_SIGNALS else f"known: {', '.join(STOP_SIGNALS)}"
        raise wrong("must be a signal's name", hint)
    return value


def _schedule(value: object) -> object:
    try:
        cron.parse(value if isinstance(value, str) else str(value))
    except ValueError as error:
        raise wrong(str(error), "write it like '*/5 * * * *', or @daily") from None
    return value


def seconds(value: str | int) -> float | None:
    """`90s`, `10m`, `2h`, `1d`, or a whole number of seconds; None: neither."""
    found = re.fullmatch(r"([1-9][0-9]{0,7})([smhd]?)", str(value))
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]] if found else None


def _duration(value: object) -> object:
    if not isinstance(value, str | int) or isinstance(value, bool) or seconds(value) is None:
        raise wrong("must be a time", "write it like 90s, 10m or 2h")
    return value


After = Annotated[list[str] | dict[str, Literal["started", "ready", "completed"]], BeforeValidator(_after)]
RestartMode = Annotated[Literal["always", "on-failure", "never"], BeforeValidator(_restart)]
StopSignal = Annotated[str, BeforeValidator(_stop_signal), Field(json_schema_extra={"enum": list(STOP_SIGNALS)})]
Port = Annotated[int, Field(ge=1, le=65535), _whole(1, 65535)]
Replicas = Annotated[int, Field(ge=0, le=MAX_REPLICAS), _whole(0, MAX_REPLICAS)]
ProtocolName = Annotated[Literal["http", "grpc", "tcp"], BeforeValidator(_protocol)]
Variables = dict[str, Annotated[str | int | float | bool, BeforeValidator(_variable)]]
Files = Annotated[str | list[str], BeforeValidator(_files)]
NamesMode = Annotated[Literal["auto", "env"], BeforeValidator(_mode)]


class PortFile(_Strict):
    """One port of a service."""

    model_config = ConfigDict(title="Port", json_schema_extra={"required": ["port"]})

    port: Port | None = Field(default=None, description="Its number in the mesh. Required.", examples=[3001])
    protocol: ProtocolName = Field(default="http", description="What is spoken there, as `protocol` of the service.")
    publish: Annotated[bool, BeforeValidator(_flag)] | None = Field(
        default=None, description="Whether it is also bound on 127.0.0.1 and [::1]. Default: as for the main port."
    )


class HealthFile(_Strict):
    """What is asked: at most one of `path`, `grpc`, `tcp` and `command`. None of them: its port answers its protocol.
    How often, and what counts: with Kubernetes' meaning, and the defaults of the three probes in
    [Health](../howto/health.md)."""

    model_config = ConfigDict(title="Health")

    path: Annotated[str, BeforeValidator(_path)] | None = Field(
        default=None, description="Answers 200 to 399 when well.", examples=["/healthz"]
    )
    grpc: Annotated[bool, BeforeValidator(_flag)] | None = Field(
        default=None, description="Whether gRPC's health service is asked, and has to say SERVING."
    )
    tcp: Annotated[bool, BeforeValidator(_flag)] | None = Field(
        default=None, description="Whether it is enough that the port accepts a connection, whatever is spoken there."
    )
    command: Annotated[str | list[str], BeforeValidator(_command)] | None = Field(
        default=None,
        description="Ends with 0 when well; run in the replica's folder and with its variables, `PORT` among them. "
        "Text and lists as for `command` of a service.",
        examples=["redis-cli -p $PORT ping"],
    )
    port: Annotated[str, BeforeValidator(_text)] | None = Field(
        default=None, description="Name of the port that is asked. Default: the main one.", examples=["admin"]
    )
    host: Annotated[str, BeforeValidator(_host_header)] | None = Field(
        default=None, description="The `Host` of the request. Default: localhost.", examples=["shop.example.com"]
    )
    interval: Pause | None = Field(
        default=None,
        description="From an answer to the next question. Default: 1s, of `liveness` 5s, of a command 5s; longer where "
        "very many replicas run.",
        examples=["500ms", "10s"],
    )
    timeout: Pause | None = Field(
        default=None,
        description="How long an answer may take. Default: 1s, of `liveness` 5s, of a command 5s.",
        examples=["2s"],
    )
    failures: Times | None = Field(
        default=None, description="So many in a row count. Default: 3, of `startup` as many as fill two minutes."
    )
    successes: Times | None = Field(
        default=None, description="So many in a row count, of `health` alone. Default: 1.", examples=[2]
    )
    delay: Delay | None = Field(
        default=None,
        description="From the start of the process to the first question. Default: 0s; `liveness` begins when the "
        "replica has been ready, unless this is written.",
        examples=["10s"],
    )


OFF = HealthFile.model_construct()
"""`liveness: off`. Known by its identity, which no file can have."""


class RouteFile(_Strict):
    """Where the gateway sends a path."""

    model_config = ConfigDict(title="Route", json_schema_extra={"required": ["service"]})

    service: Annotated[str, BeforeValidator(_text)] | None = Field(
        default=None, description="The service. Required.", examples=["web"]
    )
    port: Annotated[str, BeforeValidator(_text)] | None = Field(
        default=None, description="Name of its port. Default: the main one.", examples=["grpc"]
    )
    strip: Annotated[bool, BeforeValidator(_flag)] = Field(
        default=False,
        description="Whether the service sees the path without this beginning: `/api/users` as `/users`. It is told in "
        "`x-forwarded-prefix`.",
    )
    rewrite: Annotated[str, BeforeValidator(_path)] | None = Field(
        default=None, description="What the service sees in the place of this path.", examples=["/v2"]
    )


_PathOrWord = Annotated[str, Field(pattern="^(/|grpc$|tcp$)")]
_PathOrOff = Annotated[str, Field(pattern="^(/|grpc$|tcp$|off$)")]
Health = Annotated[HealthFile, BeforeValidator(_health, json_schema_input_type=_PathOrWord | HealthFile)]
Liveness = Annotated[HealthFile, BeforeValidator(_liveness, json_schema_input_type=_PathOrOff | HealthFile)]
OnePort = Annotated[PortFile, BeforeValidator(_mapping_of("port"), json_schema_input_type=Port | PortFile)]
OneRoute = Annotated[RouteFile, BeforeValidator(_mapping_of("service"), json_schema_input_type=str | RouteFile)]


class ServiceFile(TrafficKeys):
    """One service: what it runs, and what it needs. Exactly one of `run`, `command`, `static` and `external`."""

    model_config = ConfigDict(
        title="Service",
        json_schema_extra={"oneOf": [{"required": [key]} for key in ("run", "command", "static", "external")]},
    )

    run: Annotated[str, BeforeValidator(check_run), Field(json_schema_extra={"pattern": _RUN})] | None = Field(
        default=None,
        description="An ASGI or WSGI application: `module:attribute`. Which of the two it is, is found by looking at "
        "the object, inside the replica. Needs `port`.",
        examples=["shop.users:app"],
    )
    command: Annotated[str | list[str], BeforeValidator(_command)] | None = Field(
        default=None,
        description="A program in any language. Text goes through `/bin/sh -c`; a list is the program and its "
        "arguments, with no shell. It should listen on `$PORT`; `${port}` and `${<service>.url}` are filled in.",
        examples=["node server.js", ["./server", "--listen", "127.0.0.1:${port}"]],
    )
    static: Static | None = Field(
        default=None,
        description="A folder of files, served over HTTP by Shoal itself, or a mapping (below). Needs `port`.",
        examples=["dist", {"folder": "dist", "spa": True}],
    )
    cwd: Annotated[str, BeforeValidator(_folder)] | None = Field(
        default=None,
        description="The working directory, relative to the app file's folder. Default: that folder.",
        examples=["services/users"],
    )
    build: Build | None = Field(
        default=None,
        description="What is run once in each revision, before its first replica, in the copy of the source that its "
        "replicas run in: text for `/bin/sh -c`, or a list of the program and its arguments; `off`: nothing. With "
        "`env`, and the service's Python environment. Run again when the source, the step, `env` or the interpreter "
        "changes; what it prints is in `shoal logs <service> --build`. Default: for a `command` with a `package.json`, "
        "what its lock file asks for (`npm ci`; without one `npm install`). `shoal dev` runs none.",
        examples=["npm ci && npm run build", "python manage.py collectstatic --no-input", "off"],
    )
    port: Port | None = Field(
        default=None,
        description="Its port in the mesh, where the others reach it: `http://<service>:<port>`. Without one the "
        "service is a worker, which nobody calls.",
        examples=[3000],
    )
    protocol: ProtocolName = Field(
        default="http",
        description="What is spoken on `port`. `http`: HTTP/1.1, WebSockets and server-sent events, and gRPC; callers "
        "may use HTTP/2 too. `grpc`: HTTP/2 to the replica, whatever the caller speaks. `tcp`: bytes.",
        examples=["grpc"],
    )
    ports: dict[str, OnePort] = Field(
        default_factory=dict,
        description="Several ports, by name: numbers, or mappings (below). Without `port` the first is the main one. A "
        "replica should listen on `$PORT` and, for a further port `admin`, on `$PORT_ADMIN` (`${port.admin}`).",
        examples=[{"http": 3000, "grpc": {"port": 3001, "protocol": "grpc"}}],
    )
    external: Outside | None = Field(
        default=None,
        description="`host:port` of something that Shoal does not run, or a mapping (below). The others call it by "
        "this service's name, on `port` (default: the same number).",
        examples=["db.example.com:5432", {"address": "api.example.com:443", "tls": True}],
    )
    rewrite_host: Annotated[str, BeforeValidator(_host_header)] | None = Field(
        default=None,
        description="The `Host` that its replicas are sent; the caller's own is in `x-forwarded-host`. Default: the "
        "caller's own, and of `external` its host and port.",
        examples=["localhost"],
    )
    publish: Annotated[bool, BeforeValidator(_flag)] | None = Field(
        default=None,
        description="Whether `port` is also bound on 127.0.0.1 and [::1]. Default: true when no other service and not "
        "the gateway has the same number.",
    )
    replicas: Replicas = Field(default=1, description="How many processes of it run.", examples=[3])
    env: Variables = Field(
        default_factory=dict,
        description="Variables of its processes; they win over those that Shoal sets. `${NAME}` and "
        "`${NAME:-default}` come from the environment of `shoal up`; `$$` is a `$`.",
        examples=[{"LOG_LEVEL": "info", "USERS": "${user-service.url}"}],
    )
    env_file: Files = Field(
        default_factory=list,
        description="Files of variables (`NAME=value` a line, as Docker Compose reads them), relative to the app "
        "file's folder. A later file wins over an earlier one, `env` over all of them.",
        examples=[".env", [".env", "secrets.env"]],
    )
    files: GivenFiles = Field(
        default_factory=dict,
        description="Files that its processes find at absolute paths, and nobody else does (Linux): path to file, "
        "relative to the app file's folder, or to a mapping (below). They are read-only, and part of the revision.",
        examples=[{"/etc/app.conf": "conf/app.conf"}],
    )
    volumes: Volumes = Field(
        default_factory=list,
        description="Folders that its processes find at absolute paths, and that outlive them (Linux): "
        "`name:/path`, kept in `.shoal/data`, or `./folder:/path`, relative to the app file's folder; with `:ro` at "
        "the end they are read-only. All replicas share them.",
        examples=[["data:/var/lib/app", "./conf:/etc/app:ro"]],
    )
    python: PythonVersion | None = Field(
        default=None,
        description="The Python that it runs on, found on this machine. Default: what `.python-version` or "
        "`requires-python` beside its requirements asks for, else Shoal's own.",
        examples=["'3.12'"],
    )
    node: NodeVersion | None = Field(
        default=None,
        description="The Node that is first on its `PATH`, found on this machine. Default: what `.nvmrc` or "
        "`.node-version` in its folder asks for, else the first on the `PATH`.",
        examples=[20],
    )
    health: Health | None = Field(
        default=None,
        description="When a replica is ready, and gets requests: a path that answers 200 to 399, `grpc` for gRPC's "
        "health service, `tcp`, or a mapping (below). Default: it answers its protocol; HTTP below 500, gRPC with any "
        "status, TCP by accepting.",
        examples=["/healthz", "grpc", {"command": "redis-cli -p $PORT ping"}],
    )
    startup: Health | None = Field(
        default=None,
        description="For a slow starter: nothing else is asked until this succeeds, and a replica that does not get "
        "there is started again. Written as `health`. Default: nothing.",
        examples=[{"path": "/healthz", "failures": 300}],
    )
    liveness: Liveness | None = Field(
        default=None,
        description="When only a restart helps: a replica that fails this leaves Envoy and is started again. Written "
        "as `health`, or `off`. Default: one that gives no answer at all for 30 s is started again.",
        examples=["/livez", "off", {"path": "/livez", "interval": "10s"}],
    )
    calls: Calls = Field(
        default_factory=dict,
        description="The services that it calls. Only these can be reached by name. A mapping, or one in the place "
        "of a name, says how these calls are treated (below, `calls.<service>`).",
        examples=[["product-service"], {"product-service": {"timeout": "500ms"}}],
    )
    after: After = Field(
        default_factory=list,
        description="What must have come about before its first start; all others start at once. A list: a replica of "
        "each is ready. A mapping says for each what is waited for: `started` (has a process), `ready`, or `completed` "
        "(has ended with exit code 0; see `restart`).",
        examples=[["database"], {"database": "ready", "db-init": "completed"}],
    )
    restart: RestartMode = Field(
        default="always",
        description="Whether a process that ended by itself is started again: `always`, `on-failure` (not after exit "
        "code 0: then it has completed) or `never` (after another exit code it has failed). A completed one runs again "
        "when its revision changes, on `shoal restart`, and on the `shoal up` after a `shoal down`.",
    )
    stop_signal: StopSignal = Field(
        default="SIGTERM",
        description="What asks its processes to end. One that does not is sent SIGKILL after `stop_grace_period`.",
        examples=["SIGINT"],
    )
    drain: LeaveTime = Field(
        default="30s",
        description="A replica that leaves gets no new requests; how long those under way may take before it is sent "
        "`stop_signal`. What never ends by itself (WebSockets, event streams) is cut off then. `0s`: not at all.",
        examples=["5m"],
    )
    stop_grace_period: LeaveTime = Field(
        default="10s",
        description="From `stop_signal` to SIGKILL (Compose's word; Kubernetes: `terminationGracePeriodSeconds`).",
        examples=["30s"],
    )
    rollout: RolloutFile | None = Field(
        default=None,
        description="How its replicas are replaced, by a deploy or a restart (below). Default: one more first, then an "
        "old one leaves; taken back when it fails.",
        examples=[{"surge": 2, "deadline": "10m"}],
    )
    database: DatabaseKey | None = Field(
        default=None,
        description="Its own database: `postgres` (one PostgreSQL of the app, with a database and a role for each "
        "service), `sqlite` (a file), or the name of a resource of kind `postgres`; `{of: <service>}` for that of "
        "another service. It finds `DATABASE_URL`, and of PostgreSQL `PGHOST` and the like. Variables are "
        "filled in, here and in `uses`.",
        examples=["postgres", "sqlite", "${SHOP_DATABASE:-postgres}", {"of": "user-service"}],
    )
    secrets: GivenSecrets = Field(
        default_factory=dict,
        description="Secrets that it finds: a list of names, each a variable, or a mapping of names to how (below). "
        "`${secret.NAME}` in `env` and in the content of `files` names one too. Set them with `shoal secret set NAME`.",
        examples=[["JWT_SEED"], {"TLS_KEY": {"file": True}}],
    )
    migrate: Migrate | None = Field(
        default=None,
        description="What brings its database to the schema that its code needs: a command, as `command` of a service "
        "is written, or a mapping (below). Run once for each revision, before its first replica, with its environment "
        "and variables, and under a lock. When it fails, the older revision serves on.",
        examples=["alembic upgrade head", {"command": "python manage.py migrate", "timeout": "30m"}],
    )
    uses: Uses = Field(
        default_factory=list,
        description="Resources that it uses: names from `resources`, or a kind, which needs no entry there. It finds "
        "`NATS_URL`, `NATS_HOST` and `NATS_PORT` for `nats`, and starts once they are ready.",
        examples=[["nats"]],
    )
    network: Annotated[Literal["host", "own"], BeforeValidator(_network)] = Field(
        default="host",
        description="`host`: its processes share the machine's network, and each listens on `$PORT`. `own`: each "
        "replica has a network of its own (Linux, no root needed). It may listen on any port of any address, several "
        "replicas on the same, and it reaches nothing but the services in `calls` and what `egress` allows: no other "
        "replica, no port of the machine.",
    )
    listen: Annotated[int | str, BeforeValidator(_listen), Field(json_schema_extra=_LISTEN)] | None = Field(
        default=None,
        description="With `network: own`, where the program listens, when it is not `port`: a port, or "
        "`127.0.0.1:<port>` for a program that listens on that address alone.",
        examples=[9080, "127.0.0.1:9080"],
    )
    egress: Egress | None = Field(
        default=None,
        description="With `network: own`, where it may connect outside the app: a list of `host:port`, in which `*` "
        "is any beginning of a name. Its processes get `HTTPS_PROXY` and the like; all else is refused, with the line "
        "to add. `[]`: nowhere. Default: everywhere, where the machine has pasta (package passt); else nowhere.",
        examples=[["api.example.com:443", "*.example.org:443"]],
    )
    names: NamesMode = Field(
        default="auto",
        description="How its processes find the others: `auto` by name where the machine can do it, `env` by "
        "variables alone (`PRODUCT_SERVICE_URL`).",
    )


class DefaultsFile(TrafficKeys):
    """What every service has, unless it says otherwise itself. Variables and files of variables are put together, and
    the service's own win; any other key of the service takes the place of the one here."""

    model_config = ConfigDict(title="Defaults")

    env: Variables = Field(default_factory=dict, description="As `env` of a service.", examples=[{"LOG_LEVEL": "info"}])
    env_file: Files = Field(default_factory=list, description="As `env_file` of a service.", examples=[".env"])
    replicas: Replicas | None = Field(default=None, description="As `replicas` of a service.", examples=[2])
    health: Health | None = Field(
        default=None, description="As `health` of a service; passes by those without a port.", examples=["/healthz"]
    )
    startup: Health | None = Field(default=None, description="As `startup` of a service; passes by as `health` does.")
    liveness: Liveness | None = Field(
        default=None, description="As `liveness` of a service; passes by as `health` does.", examples=["off"]
    )
    names: NamesMode | None = Field(default=None, description="As `names` of a service.")
    restart: RestartMode | None = Field(default=None, description="As `restart` of a service.")
    stop_signal: StopSignal | None = Field(default=None, description="As `stop_signal` of a service.")
    drain: LeaveTime | None = Field(default=None, description="As `drain` of a service.", examples=["1m"])
    stop_grace_period: LeaveTime | None = Field(default=None, description="As `stop_grace_period` of a service.")
    rollout: RolloutFile | None = Field(default=None, description="As `rollout` of a service.")


class JobFile(_Strict):
    """Something that runs to its end, now and then: by its schedule, and when somebody says `shoal run`. There are
    never two runs of a job at once. A run that was due while Shoal was away, or while the one before still ran, is made
    up for within the hour, once."""

    model_config = ConfigDict(title="Job", json_schema_extra={"required": ["command"]})

    command: Annotated[str | list[str], BeforeValidator(_command)] | None = Field(
        default=None,
        description="As `command` of a service. Exit code 0 is success. Required.",
        examples=["python -m shop.report"],
    )
    schedule: Annotated[str, BeforeValidator(_schedule)] | None = Field(
        default=None,
        description="When it runs, in local time: minute, hour, day of the month, month, day of the week, as in a "
        "crontab; or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. Default: only by `shoal run`.",
        examples=["*/5 * * * *", "30 3 * * mon-fri"],
    )
    timeout: Annotated[str | int, BeforeValidator(_duration)] | None = Field(
        default=None,
        description="How long a run may take, as `90s`, `10m` or `2h`; then it is ended, and has failed. Default: as "
        "long as it likes.",
        examples=["10m"],
    )
    cwd: Annotated[str, BeforeValidator(_folder)] | None = Field(default=None, description="As `cwd` of a service.")
    env: Variables = Field(default_factory=dict, description="As `env` of a service.")
    env_file: Files = Field(default_factory=list, description="As `env_file` of a service.")
    calls: Calls = Field(default_factory=dict, description="As `calls` of a service.")
    database: DatabaseKey | None = Field(
        default=None, description="As `database` of a service.", examples=[{"of": "user-service"}]
    )
    uses: Uses = Field(default_factory=list, description="As `uses` of a service.", examples=[["nats"]])
    secrets: GivenSecrets = Field(default_factory=dict, description="As `secrets` of a service.")
    files: GivenFiles = Field(default_factory=dict, description="As `files` of a service.")
    volumes: Volumes = Field(default_factory=list, description="As `volumes` of a service.")
    python: PythonVersion | None = Field(default=None, description="As `python` of a service.")
    node: NodeVersion | None = Field(default=None, description="As `node` of a service.")


class GatewayFile(_Strict):
    """The front door: one port, many services."""

    model_config = ConfigDict(title="Gateway", json_schema_extra={"required": ["port", "routes"]})

    port: Port | None = Field(default=None, description="Bound on 127.0.0.1 and [::1]. Required.", examples=[8080])
    routes: dict[str, OneRoute] = Field(
        default_factory=dict,
        description="Path, or host and path, to service, or to a mapping (below). `/users` takes `/users` and all "
        "below it. The longest path wins; one with a host beats one without. Required.",
        examples=[{"/users": "user-service", "shop.localhost/": "web"}],
    )
    trusted_proxies: list[Annotated[str, BeforeValidator(network_of)]] = Field(
        default_factory=list,
        description="Addresses or networks of proxies before the gateway, such as nginx. What they say of a client in "
        "`X-Forwarded-For` and the like is passed on; from all others these headers are taken off. Default: none.",
        examples=[["127.0.0.1"], ["127.0.0.1", "10.0.0.0/8"]],
    )


class AppFile(_Strict):
    """An app: services, and a gateway in front of them."""

    model_config = ConfigDict(title="shoal.yaml", json_schema_extra={"required": ["services"]})

    app: Annotated[str, BeforeValidator(_text)] | None = Field(
        default=None, description="Its name. Default: the folder's.", examples=["shop"]
    )
    services: dict[str, ServiceFile] = Field(
        default_factory=dict,
        description="By name: lower case letters, digits and `-`, at most 63. Required.",
        json_schema_extra={"propertyNames": {"pattern": f"^{_LABEL}$"}},
    )
    gateway: GatewayFile | None = Field(default=None, description="The front door. Default: none.")
    jobs: dict[str, JobFile] = Field(
        default_factory=dict,
        description="By name, which is no service's. Default: none.",
        json_schema_extra={"propertyNames": {"pattern": f"^{_LABEL}$"}},
    )
    defaults: DefaultsFile | None = Field(default=None, description="What every service has. Default: nothing.")
    secrets: Secrets = Field(
        default_factory=dict,
        description="Names of secrets, or a mapping of names to how they come about (below). One that is only used, "
        "and always set by hand, needs no entry.",
        examples=[{"JWT_SEED": {"generate": 32}}],
    )
    resources: dict[str, ResourceFile] = Field(
        default_factory=dict,
        description="Databases, brokers and caches that Shoal runs for the services, by name: `database:` and `uses:` "
        "of a service name them. Default: those that are named there by their kind.",
        json_schema_extra={"propertyNames": {"pattern": f"^{_LABEL}$"}},
        examples=[{"nats": {}, "cache": {"kind": "redis"}}],
    )
    volumes: SharedVolumes = Field(
        default_factory=list,
        description="Names of volumes that are one for all services. A name that is not here is each service's own.",
        examples=[["uploads"]],
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12, for editors and other tools. It is as strict as it can be about each value alone."""
    schema: dict[str, Any] = _without_null(AppFile.model_json_schema())
    return {"$schema": JSON_SCHEMA_DIALECT, **schema}


def _without_null(schema: Any) -> Any:
    """An optional key may be left out; that its value could be null is pydantic's way to say so."""
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _without_null(value) for key, value in schema.items() if not (key == "default" and value is None)}
    options = [option for option in kept.get("anyOf", []) if option != {"type": "null"}]
    if len(options) == 1:
        del kept["anyOf"]
        return {**options[0], **kept}
    return kept | ({"anyOf": options} if options else {})
