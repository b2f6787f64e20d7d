"""The resources of an app: how each is started, and what those that use it find in their environment."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from shoal.engines.local.ports import PortLeases
from shoal.engines.local.resources import place as places
from shoal.engines.local.resources import postgres, programs, servers
from shoal.engines.local.resources.place import Place
from shoal.engines.local.uv import Progress
from shoal.errors import EngineError
from shoal.model.app import App, Network, Service
from shoal.model.resources import Database, Keeping, Kind, Resource, Use
from shoal.model.topology import EdgeMap
from shoal.paths import StateFolder
from shoal.planner.environment import variable_prefix

_READY_S_MAX = 60.0
"""How long a replica that starts waits for a PostgreSQL that is not there at the moment."""
_AGAIN_S = 0.25
_OF_LIBPQ = {
    "host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
    "options": "PGOPTIONS", "channel_binding": "PGCHANNELBINDING", "passfile": "PGPASSFILE",
    "target_session_attrs": "PGTARGETSESSIONATTRS", "connect_timeout": "PGCONNECT_TIMEOUT",
    "application_name": "PGAPPNAME",
}  # fmt: skip
"""What the query of a PostgreSQL URL may say, and libpq's variable for it."""
_AWAY = ("refused", "starting up", "shutting down", "in recovery", "closed the connection")
"""What psql says of a server that comes back by itself."""
_PASSED = ("PATH", "HOME", "LANG", "TZ", "XDG_RUNTIME_DIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a resource's server is started."""

    argv: list[str]
    env: Mapping[str, str]
    folder: Path
    port: int
    monitoring: int | None = None
    """Where it answers over HTTP how it is."""


class Resources:
    def __init__(self, state: StateFolder, leases: PortLeases) -> None:
        self._state, self._leases = state, leases
        self._made: set[tuple[str, str]] = set()
        """Databases that are there, by resource and owner; until the resource is started again."""
        self._making = asyncio.Lock()

    async def start(self, service: Service, progress: Progress) -> Run:
        """Makes its folder, the first time. EngineError."""
        assert isinstance(service.workload, Resource)
        self._made = {made for made in self._made if made[0] != service.name}
        place = self._place(service.name, service.workload.kind)
        if not place.data.exists():
            await progress(f"making the folder of {service.name}")
        return await asyncio.to_thread(self._run, service.name, service.workload, place)

    def _run(self, name: str, resource: Resource, place: Place) -> Run:
        places.make(place)
        port = place.port(lambda: self._leases.lease(name))
        place.check_port(port)
        env = {key: os.environ[key] for key in _PASSED if key in os.environ}
        folder = place.data
        monitoring: int | None = None
        match resource.kind:
            case Kind.POSTGRES:
                found = programs.postgres_folder()
                postgres.make_folder(found, place)
                env["PATH"] = f"{found}{os.pathsep}{env.get('PATH', os.defpath)}"  # for `pg_isready`
                return Run(argv=postgres.argv(found, place, port), env=env, folder=Path("/"), port=port)
            case Kind.NATS:
                monitoring = self._monitoring(place, name)
                argv = servers.nats(place, port, monitoring)
            case Kind.REDIS:
                argv = servers.redis(place, port, resource)
            case Kind.MONGODB:
                argv = servers.mongodb(place, port, resource)
        folder.mkdir(mode=0o700, exist_ok=True)
        return Run(argv=argv, env=env, folder=folder, port=port, monitoring=monitoring)

    async def ensure(self, service: Service) -> None:
        """The database of a service that is about to start is there, and its role. EngineError."""
        database = service.database
        if database is None or database.use is None or database.use.url:
            return
        key = (database.use.name, database.owner)
        async with self._making:
            if key in self._made:
                return
            place = self._place(database.use.name, Kind.POSTGRES)
            await asyncio.to_thread(places.make, place)
            port = await asyncio.to_thread(place.port, lambda: self._leases.lease(key[0]))
            await self._until_there(place, port, database.owner)
            self._made.add(key)

    async def _until_there(self, place: Place, port: int, owner: str) -> None:
        found = programs.postgres_folder()
        tries = int(_READY_S_MAX / _AGAIN_S)
        while True:
            try:
                await asyncio.to_thread(postgres.ensure, found, place, port, owner)
                return
            except EngineError as error:
                tries -= 1
                if tries == 0 or not any(word in error.detail for word in _AWAY):
                    raise
            await asyncio.sleep(_AGAIN_S)

    def variables(self, app: App, service: Service, edges: EdgeMap, fill: Callable[[str], str] = str) -> dict[str, str]:
        """What tells a service where its data is: passwords are in it. Reads and makes small files. `fill`: fills
        in the secrets of a URL. EngineError."""
        env: dict[str, str] = {}
        for use in service.uses:
            prefix = variable_prefix(use.name)
            url = fill(use.url) if use.url else self._url(service, edges, use)
            parts = urlsplit(url)
            env |= {f"{prefix}_URL": url, f"{prefix}_HOST": parts.hostname or ""}
            env[f"{prefix}_PORT"] = str(parts.port or use.kind.port)
        if service.database is not None:
            env |= self._database(service, edges, service.database, fill)
        return env

    def _database(
        self, service: Service, edges: EdgeMap, database: Database, fill: Callable[[str], str]
    ) -> dict[str, str]:
        if database.keeping is Keeping.SQLITE:
            return {"DATABASE_URL": f"sqlite:///{self.sqlite_file(database.owner)}"}
        assert database.use is not None
        if database.use.url:
            url = fill(database.use.url)
            return {"DATABASE_URL": url, **of_url(url)}
        place = self._place(database.use.name, Kind.POSTGRES)
        host, port = self._address(service, edges, database.use)
        owner, password = database.owner, place.password(database.owner)
        url = f"postgresql://{quote(owner, safe='')}:{quote(password, safe='')}@{host}:{port}/{quote(owner, safe='')}"
        return {"DATABASE_URL": url, **postgres.variables(host, port, owner, password, owner)}

    def lock(self, service: Service) -> list[str]:
        """What `migrations.locked` holds while it changes the service's database: kind, argument, psql."""
        database = service.database
        if database is None:
            return ["none", "", ""]
        if database.keeping is Keeping.SQLITE:
            return ["file", f"{self.sqlite_file(database.owner)}.lock", ""]
        digest = hashlib.blake2b(f"shoal migrates {database.owner}".encode(), digest_size=8).digest()
        key = int.from_bytes(digest, "big", signed=True)
        return ["postgres", str(key), str(programs.postgres_folder() / "psql")]

    def identity(self, service: Service) -> str:
        """Another text when the service's database is another one, or was thrown away and made anew. Blocks."""
        database = service.database
        if database is None:
            return ""
        if database.keeping is Keeping.SQLITE:
            file = self.sqlite_file(database.owner)
            return f"sqlite {file.stat().st_ino}" if file.exists() else "sqlite"
        assert database.use is not None
        if database.use.url:
            parts = urlsplit(database.use.url)
            return f"{parts.hostname}:{parts.port}{parts.path}"
        secret = self._place(database.use.name, Kind.POSTGRES).password(database.owner)
        return f"{database.use.name} {hashlib.blake2b(secret.encode(), digest_size=8).hexdigest()}"

    def monitoring(self, name: str) -> int | None:
        """The port where the NATS of that name answers questions about itself; None: it was never started. Blocks."""
        return self._place(name, Kind.NATS).known_port("monitoring")

    def reached(self, database: Database, fill: Callable[[str], str]) -> dict[str, str] | None:
        """libpq's variables for a PostgreSQL database, as its owner sees it from this machine; None: it was never made.
        Makes nothing. Blocks. EngineError."""
        assert database.use is not None
        if database.use.url:
            return of_url(fill(database.use.url))
        place, owner = self._place(database.use.name, Kind.POSTGRES), database.owner
        port = place.known_port()
        if port is None or not place.has_password(owner):
            return None
        return postgres.variables(postgres.HOST, port, owner, place.password(owner), owner)

    def sqlite_file(self, owner: str) -> Path:
        return self._state.data / owner / f"{owner}.sqlite3"

    def _monitoring(self, place: Place, name: str) -> int:
        return place.port(lambda: self._leases.lease(f"{name}:monitoring"), "monitoring")

    def _url(self, service: Service, edges: EdgeMap, use: Use) -> str:
        host, port = self._address(service, edges, use)
        match use.kind:
            case Kind.POSTGRES:
                return f"postgresql://{host}:{port}"
            case Kind.NATS:
                return f"nats://{servers.USER}:{self._place(use.name, use.kind).password()}@{host}:{port}"
            case Kind.REDIS:
                return f"redis://:{self._place(use.name, use.kind).password()}@{host}:{port}/0"
            case Kind.MONGODB:
                return f"mongodb://{host}:{port}"

    def _address(self, service: Service, edges: EdgeMap, use: Use) -> tuple[str, int]:
        """Straight to the server: a session must outlive Envoy. From a network of its own there is but the mesh."""
        if service.network is Network.OWN:
            return edges.address(service.name, use.name), use.kind.port
        place = self._place(use.name, use.kind)
        return servers.HOST, place.port(lambda: self._leases.lease(use.name))

    def _place(self, name: str, kind: Kind) -> Place:
        return places.place_of(self._state, name, apart=kind is Kind.POSTGRES)


def passwords_in(variables: Mapping[str, str]) -> list[str]:
    """Of what `Resources.variables` gave."""
    urls = (value for key, value in variables.items() if key.endswith("_URL"))
    found = [variables.get("PGPASSWORD", ""), *(urlsplit(url).password or "" for url in urls)]
    return [password for password in found if password]


def of_url(url: str) -> dict[str, str]:
    """libpq's variables for the URL of a database; what its query says of them wins, as it does for libpq."""
    parts = urlsplit(url)
    plain = postgres.variables(
        parts.hostname or "",
        parts.port or Kind.POSTGRES.port,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        unquote(parts.path.strip("/")),
    )
    return plain | {_OF_LIBPQ[key]: value for key, value in parse_qsl(parts.query) if key in _OF_LIBPQ}
