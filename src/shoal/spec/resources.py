"""`resources:`, `database:` and `uses:`: what services keep their data in, each value alone and all together."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Protocol

from pydantic import BeforeValidator, ConfigDict, Field

from shoal.model.app import Network, Service
from shoal.model.app import Protocol as Spoken
from shoal.model.draining import Draining
from shoal.model.health import HealthCheck
from shoal.model.policy import RolloutPolicy
from shoal.model.resources import Database, Keeping, Kind, Resource, Use
from shoal.spec.document import Loc
from shoal.spec.problems import did_you_mean, quoted
from shoal.spec.strict import Strict, wrong

KINDS = tuple(str(kind) for kind in Kind)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+|\$\{\S+\}")
_STOP_S = 60.0
"""A database writes down what it has in memory before it ends."""


def _kind(value: object) -> object:
    if value not in KINDS:
        near = did_you_mean(str(value), KINDS)
        raise wrong(f"must be one of {', '.join(KINDS)}", near if near.startswith("did") else "")
    return value


def _url(value: object) -> object:
    if not isinstance(value, str) or not _URL.fullmatch(value):
        raise wrong("must be a URL", "such as postgresql://user:${secret.DB_PASSWORD}@db.example.com:5432/shop")
    return value


def _image(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[\w][\w.:/@-]*", value):
        raise wrong("must be the name of an image", "such as docker.io/library/mongo:7")
    return value


def _database(value: object) -> object:
    if isinstance(value, dict):
        if set(value) != {"of"} or not isinstance(value["of"], str):
            raise wrong("must be postgres, sqlite, the name of a resource, or {of: <service>}")
        return value
    if not isinstance(value, str) or not value:
        raise wrong("must be postgres, sqlite, the name of a resource, or {of: <service>}")
    return value


def _uses(value: object) -> object:
    if isinstance(value, str):
        raise wrong("must be a list of resources", f"write [{value}]")
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise wrong("must be a list of resources")
    return value


class ResourceFile(Strict):
    """A server that keeps data, run by Shoal: one process, started before what uses it, with data that outlives `shoal
    down`."""

    model_config = ConfigDict(title="Resource")

    kind: Annotated[Literal["postgres", "nats", "redis", "mongodb"], BeforeValidator(_kind)] | None = Field(
        default=None,
        description="`postgres`, `nats` (with JetStream), `redis` or `mongodb`. Default: the resource's name, where "
        "that is one of them.",
    )
    external: Annotated[str, BeforeValidator(_url)] | None = Field(
        default=None,
        description="The URL of a server that Shoal does not run. With `database:` it names the database too. Secrets "
        "are written `${secret.NAME}`.",
        examples=["postgresql://shop:${secret.DB_PASSWORD}@db.example.com:5432/shop"],
    )
    image: Annotated[str, BeforeValidator(_image)] | None = Field(
        default=None,
        description="For `redis` and `mongodb`: run this image with podman or docker. Default: `redis-server` or "
        "`mongod` from the `PATH`.",
        examples=["docker.io/library/mongo:7"],
    )


DatabaseKey = Annotated[
    str | dict[str, str],
    BeforeValidator(_database),
    Field(
        json_schema_extra={
            "anyOf": [
                {"type": "string"},
                {"type": "object", "properties": {"of": {"type": "string"}}, "required": ["of"]},
            ]
        }
    ),
]
Uses = Annotated[list[str], BeforeValidator(_uses)]
Named = dict[str, ResourceFile]


class _Review(Protocol):
    def at_key(self, loc: Loc, message: str, way_out: str = "") -> None: ...
    def at_value(self, loc: Loc, message: str, way_out: str = "") -> None: ...


class _Part(Protocol):
    """A service or a job, as far as it keeps data."""

    @property
    def database(self) -> str | dict[str, str] | None: ...
    @property
    def uses(self) -> list[str]: ...


class Resources:
    """All of an app. `named`: those of its file; `parts`: its services and jobs by their places."""

    def __init__(self, review: _Review, named: Mapping[str, ResourceFile], parts: Mapping[Loc, Any]) -> None:
        self._review = review
        self._parts = {str(loc[1]): part for loc, part in parts.items() if loc[0] == "services"}
        taken = {str(loc[1]) for loc in parts}
        self._urls: dict[str, str] = {}
        self._files: dict[str, ResourceFile] = dict(named)
        self._kinds: dict[str, Kind] = {}
        for name, written in named.items():
            kind = written.kind or (name if name in KINDS else None)
            if kind is None:
                review.at_key(("resources", name), "its kind is missing", f"add 'kind': one of {', '.join(KINDS)}")
                continue
            self._kinds[name] = Kind(kind)
            if written.external is not None:
                self._urls[name] = written.external
            if written.image is not None and kind not in (Kind.REDIS, Kind.MONGODB):
                review.at_key(("resources", name, "image"), f"{kind} comes with Shoal", "remove it")
        for loc, part in parts.items():
            if part.database == Kind.POSTGRES and Kind.POSTGRES not in self._kinds:
                self._kinds["postgres"] = Kind.POSTGRES
            if "postgres" in taken and "postgres" in self._kinds and "postgres" not in named:
                review.at_value(
                    (*loc, "database"),
                    "would start a resource 'postgres', and there is a service or a job of that name",
                    "rename that, or name the resource: resources: {db: {kind: postgres}} and database: db",
                )
                break
            for name in part.uses:
                if name in KINDS and name not in self._kinds and name not in taken:
                    self._kinds[name] = Kind(name)  # needs no line of its own

    def check_names(self, taken: Collection[str], flaw: Mapping[str, tuple[str, str]]) -> None:
        """`taken`: services and jobs; `flaw`: what is wrong with a name of a resource."""
        for name in self._files:
            loc: Loc = ("resources", name)
            if name in flaw:
                self._review.at_key(loc, *flaw[name])
            elif name in taken:
                self._review.at_key(loc, f"there is a service or a job '{name}' too", "give one of them another name")

    def services(self, folder: str) -> list[Service]:
        """Those that Shoal runs, as services."""
        return [self._service(name, kind, folder) for name, kind in self._kinds.items() if name not in self._urls]

    def database(self, loc: Loc, part: _Part) -> Database | None:
        written, owner = part.database, str(loc[1])
        here = (*loc, "database")
        if isinstance(written, dict):
            owner = written["of"]
            if owner not in self._parts or self._parts[owner].database is None:
                words = f"there is no service {quoted(owner)} with a database"
                self._review.at_value((*here, "of"), words, did_you_mean(owner, self._owners()))
                return None
            written = self._parts[owner].database
            if isinstance(written, dict):
                self._review.at_value(
                    (*here, "of"), f"'{owner}' has no database of its own", "name the one that has it"
                )
                return None
        if written is None:
            return None
        if written == Keeping.SQLITE:
            return Database(keeping=Keeping.SQLITE, owner=owner)
        kind = self._kinds.get(written)
        if kind is not Kind.POSTGRES:
            what = f"there is no resource {quoted(written)}" if kind is None else f"'{written}' is a {kind}"
            known = ["postgres", "sqlite", *(n for n, k in self._kinds.items() if k is Kind.POSTGRES)]
            way_out = did_you_mean(written, known) if kind is None else f"write {{uses: [{written}]}} beside it"
            self._review.at_value(here, what, way_out)
            return None
        return Database(keeping=Keeping.POSTGRES, owner=owner, use=self._use(written))

    def uses(self, loc: Loc, part: _Part) -> tuple[Use, ...]:
        found: list[Use] = []
        for i, name in enumerate(part.uses):
            if name not in self._kinds:
                known = sorted({*self._kinds, *KINDS})
                near = did_you_mean(name, known, otherwise=f"known: {', '.join(known)}")
                self._review.at_value((*loc, "uses", i), f"there is no resource {quoted(name)}", near)
            elif name in part.uses[:i]:
                self._review.at_value((*loc, "uses", i), f"'{name}' is named twice", "remove one")
            else:
                found.append(self._use(name))
        return tuple(found)

    def _use(self, name: str) -> Use:
        return Use(name=name, kind=self._kinds[name], url=self._urls.get(name, ""))

    def _owners(self) -> list[str]:
        return [name for name, part in self._parts.items() if part.database is not None]

    def _service(self, name: str, kind: Kind, folder: str) -> Service:
        file = self._files.get(name)
        health, liveness = _checks(kind)
        return Service(
            name=name,
            workload=Resource(kind=kind, image=(file.image or "") if file is not None else ""),
            folder=folder,
            port=kind.port,
            protocol=Spoken.TCP,
            health=health,
            liveness=liveness,
            restart_hung=False,  # one that recovers from a crash may be silent for long
            stop_signal="SIGINT" if kind is Kind.POSTGRES else "SIGTERM",
            draining=Draining(drain_s=0.0, grace_s=_STOP_S),
            # Never two at once: they would share a folder.
            rollout=RolloutPolicy(surge=0, unavailable=1, min_healthy_s=0.0, rollback=False),
        )


def _checks(kind: Kind) -> tuple[HealthCheck | None, HealthCheck | None]:
    """Readiness and liveness."""
    if kind is Kind.POSTGRES:
        return HealthCheck(command=("pg_isready", "-q", "-h", "127.0.0.1", "-p", "${port}")), None
    if kind is Kind.NATS:
        # A stream that could not write, as on a full disk, takes nothing more until the server is started again.
        asked = HealthCheck(path="/healthz", port="monitoring")
        return asked, asked
    return None, None


def with_resources(service: Service) -> Service:
    """Starts after them, and reaches them through the mesh where it has no other way."""
    others = service.resources
    after = tuple(dict.fromkeys((*service.after, *others)))
    calls = tuple(dict.fromkeys((*service.calls, *others))) if service.network is Network.OWN else service.calls
    return replace(service, after=after, calls=calls)
