"""The file as a whole, and its conversion to the model: names, ports, references, cycles."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from shoal.model import secrets
from shoal.model.app import (
    App,
    Barrier,
    Command,
    External,
    Gateway,
    Job,
    Names,
    Port,
    Protocol,
    PythonApp,
    Restart,
    Route,
    Service,
)
from shoal.model.health import HealthCheck
from shoal.model.migration import Migration
from shoal.model.policy import RolloutPolicy
from shoal.model.surroundings import Static
from shoal.model.traffic import Policy
from shoal.spec import barriers, building, mounts, probes, references, rolling
from shoal.spec import edges as traffic
from shoal.spec import secrets as given
from shoal.spec.authorities import external
from shoal.spec.document import Document, Loc
from shoal.spec.doors import Ports, route
from shoal.spec.draining import draining
from shoal.spec.migrating import migration
from shoal.spec.networks import networked
from shoal.spec.problems import SpecError, did_you_mean, quoted
from shoal.spec.resources import Resources, with_resources
from shoal.spec.review import Review
from shoal.spec.schema import OFF, AppFile, HealthFile, JobFile, ServiceFile, is_label, seconds
from shoal.spec.surroundings import Variables, env_files, with_defaults

RESERVED = ("localhost", "envoy", "daemon", "keeper")
"""No service is called so: the machine's own name, and the parts of Shoal that `shoal logs` shows."""

_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z")
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
"""What resolvers take for an IPv4 address in one number."""
_P = TypeVar("_P", ServiceFile, JobFile)


def build(document: Document, folder: Path, environ: Mapping[str, str], hostname: str) -> App:
    """Raises SpecError with every problem of the document. `folder`: the app file's, absolute."""
    check = _Check(document, folder, environ, hostname)
    app = check.app()
    if check.review.problems:
        raise SpecError(check.review.problems)
    return app


def label_from(text: str, otherwise: str) -> str:
    """A DNS label as near to the text as can be; `otherwise` when nothing is left of it."""
    label = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
    return label or otherwise


def name_flaw(name: str, hostname: str) -> tuple[str, str] | None:
    """Why a service cannot have this name, and the way out; None when it can."""
    if not is_label(name):
        near = label_from(name, "")
        hint = f"write '{near}'" if near else ""
        return f"the name {quoted(name)} is not made of lower case letters, digits and '-' (at most 63)", hint
    if name in RESERVED:
        return f"the name '{name}' is taken by Shoal or the machine itself", "choose another name"
    if name in (hostname.lower(), hostname.lower().partition(".")[0]):
        return f"the name '{name}' is this machine's own name", "choose another name"
    if _NUMBER.match(name):
        return f"the name '{name}' would be taken for an IP address", "add a letter"
    return None


class _Check:
    def __init__(self, document: Document, folder: Path, environ: Mapping[str, str], hostname: str) -> None:
        self.review = Review(document)
        self.folder, self.environ, self.hostname = folder, environ, hostname
        read = self.review.read()
        services = {
            name: self._with_data(("services", name), with_defaults(service, read.defaults))
            for name, service in read.services.items()
        }
        jobs = {name: self._with_data(("jobs", name), job) for name, job in read.jobs.items()}
        self.file: AppFile = read.model_copy(update={"services": services, "jobs": jobs})
        self.variables = Variables(self.review, folder, environ)
        raw = document.plain.get("services") if isinstance(document.plain, dict) else None
        named = {str(loc[1]) for loc in document.places if len(loc) == 2 and loc[0] == "services"}
        self.known = sorted(named | set(raw or ()))
        """Every service that the file names, sound or not."""

    def app(self) -> App:
        name = self.file.app
        if name is None:
            name = label_from(self.folder.name, "app")
        elif not is_label(name):
            near = label_from(name, "")
            hint = f"write '{near}'" if near else ""
            self.review.at_value(("app",), "must be made of lower case letters, digits and '-' (at most 63)", hint)
        if not self.known and not any(len(bad) < 2 for bad in self.review.bad):
            self.review.at_key((), "the app has no services", "add: services: {hello: {run: 'hello:app', port: 8080}}")
        self.ports = Ports(self.review, self.file)
        traffic.whole(self.review, ("defaults",), self.file.defaults)
        self.mounts = mounts.Mounts(self.review, self.folder, self.file.volumes)
        self.resources = self._resources()
        services = [self._service(name, service) for name, service in self.file.services.items()]
        services += [self._job(name, job) for name, job in self.file.jobs.items()]
        services = [*self.resources.services(str(self.folder)), *map(with_resources, services)]
        barriers.check_cycles(self.review, self.file.services)
        made = tuple((name, one.generate or 0) for name, one in self.file.secrets.items())
        gateway, folder = self._gateway(), str(self.folder)
        return App(name=name, services=tuple(services), gateway=gateway, folder=folder, secrets=made)

    def _with_data(self, loc: Loc, part: _P) -> _P:
        """`database` and `uses` with the variables in them filled in: one app file serves a laptop and a server."""
        scope = references.Scope(services=(), calls=(), has_port=False, environ=self.environ)
        changed: dict[str, object] = {}
        if isinstance(part.database, str):
            text, flaws = references.fill(part.database, scope)
            self._report((*loc, "database"), flaws)
            changed["database"] = None if flaws else text
        if part.uses:
            filled = [references.fill(name, scope) for name in part.uses]
            for i, (_, flaws) in enumerate(filled):
                self._report((*loc, "uses", i), flaws)
            changed["uses"] = [text for text, flaws in filled if not flaws]
        return part.model_copy(update=changed)

    def _resources(self) -> Resources:
        parts: dict[Loc, ServiceFile | JobFile] = {("services", n): part for n, part in self.file.services.items()}
        parts |= {("jobs", name): part for name, part in self.file.jobs.items()}
        found = Resources(self.review, self.file.resources, parts)
        flaws = {name: flaw for name in self.file.resources if (flaw := name_flaw(name, self.hostname))}
        found.check_names({*self.known, *self.file.jobs}, flaws)
        return found

    def _service(self, name: str, service: ServiceFile) -> Service:
        review, loc = self.review, ("services", name)
        if flaw := name_flaw(name, self.hostname):
            review.at_key(loc, *flaw)
        self._check_others(loc, service)
        barriers.check(review, name, self.file.services, self.known)
        ports = self.ports.of(name)
        main = ports[0] if ports else None
        served = next((key for key in ("run", "static") if getattr(service, key) is not None), "")
        if main is None and served and self.ports.sound(name):
            what = "an application needs a port" if served == "run" else "files are served on a port"
            review.at_key((*loc, served), what, "add 'port', where the others reach it")
        scope = references.Scope(
            own=name,
            ports=self.ports.names(),
            services=self.known,
            calls=service.calls if review.sound(*loc, "calls") else self.known,
            has_port=main is not None or not self.ports.sound(name),
            environ=self.environ,
        )
        return Service(
            name=name,
            workload=self._workload(loc, service, scope),
            folder=self._folder(loc, service),
            port=main.number if main else None,
            publish=main is not None and main.publish,
            protocol=main.protocol if main else Protocol.HTTP,
            port_name=main.name if main else "",
            ports=ports[1:],
            rewrite_host=service.rewrite_host,
            replicas=0 if service.external is not None else service.replicas,
            env=given.variables(service.secrets, self.variables.of(loc, service, self.file.defaults, scope)),
            secret_files=given.files(service.secrets),
            env_files=(*env_files(self.file.defaults), *env_files(service)),
            health=probes.readiness(self._probe(loc, "health", service.health, ports, scope)),
            startup=self._probe(loc, "startup", service.startup, ports, scope),
            liveness=self._probe(loc, "liveness", service.liveness, ports, scope),
            restart_hung=service.liveness is not OFF,
            build=building.built(review, loc, service),
            calls=tuple(service.calls),
            traffic=traffic.traffic(review, name, service, ports, sound=self.ports.sound(name)),
            edges=self._edges(loc, service),
            after=tuple(service.after),
            barriers=tuple((o, b) for o, b in barriers.barriers(service).items() if b is not Barrier.READY),
            restart=Restart(service.restart),
            stop_signal=service.stop_signal,
            names=Names(service.names),
            draining=draining(service),
            rollout=self._rollout(loc, service, ports),
            files=self.mounts.files(loc, service, scope),
            volumes=self.mounts.volumes(loc, service, scope),
            python=service.python or "",
            node=service.node or "",
            database=self.resources.database(loc, service),
            migrate=self._migration(loc, service),
            uses=self.resources.uses(loc, service),
            **networked(review, loc, service),
        )

    def _workload(
        self, loc: Loc, service: ServiceFile, scope: references.Scope
    ) -> PythonApp | Command | External | Static:
        review = self.review
        if service.external is not None:
            return external(review, (*loc, "external"), service.external, self.folder)
        ways = [key for key in ("run", "command", "static") if getattr(service, key) is not None]
        if len(ways) > 1:
            review.at_key((*loc, ways[1]), f"a service has either '{ways[0]}' or '{ways[1]}'", "remove one")
        if service.run is not None:
            module, _, attribute = service.run.partition(":")
            return PythonApp(module=module, attribute=attribute)
        if service.command is not None:
            return Command(argv=self._argv((*loc, "command"), service.command, scope))
        if service.static is not None:
            ports = self.ports.of(loc[1] if isinstance(loc[1], str) else "")
            return mounts.static(review, loc, service, ports[0].protocol if ports else Protocol.HTTP)
        if all(review.sound(*loc, key) for key in ("run", "command", "static", "external")):
            review.at_key(loc, "nothing to run", "add 'run: module:attribute' for a Python app, or 'command'")
        return Command(argv=())

    def _argv(self, loc: Loc, command: str | list[str], scope: references.Scope) -> tuple[str, ...]:
        if secrets.named_in(command if isinstance(command, str) else " ".join(command)):
            words = "a secret in a command line can be seen by everybody on this machine"
            self.review.at_value(loc, words, "give it as a variable: secrets: [NAME], and write $NAME")
        if isinstance(command, str):
            self._report(loc, references.check_script(command, scope))
            return ("/bin/sh", "-c", command)
        argv = []
        for i, argument in enumerate(command):
            text, flaws = references.fill(argument, scope)
            self._report((*loc, i), flaws)
            argv.append(text)
        return tuple(argv)

    def _probe(
        self, loc: Loc, key: str, written: HealthFile | None, ports: tuple[Port, ...], scope: references.Scope
    ) -> HealthCheck | None:
        if written is OFF:
            return None
        command = written.command if written is not None and written.command is not None else None
        argv = self._argv((*loc, key, "command"), command, scope) if command is not None else ()
        return probes.probe(self.review, loc, key, written, ports, argv)

    def _migration(self, loc: Loc, service: ServiceFile) -> Migration | None:
        written = service.migrate
        if written is not None and written.command is None and self.review.sound(*loc, "migrate"):
            self.review.at_key((*loc, "migrate"), "'command' is missing", "add it: command: alembic upgrade head")
        if written is not None and service.external is not None:
            self.review.at_key((*loc, "migrate"), "what is external is not migrated here", "remove it")
        return migration(written)

    def _rollout(self, loc: Loc, service: ServiceFile, ports: tuple[Port, ...]) -> RolloutPolicy:
        if words := rolling.flaw(service.rollout):
            self.review.at_key((*loc, "rollout"), words, "give one of them 1 or more")
        here = (*loc, "rollout", "strategy")
        if words := rolling.no_canary(service.rollout, ports) if here in self.review.document.places else "":
            self.review.at_value(here, words, "remove it, or write rolling")
        return rolling.policy(service.rollout)

    def _job(self, name: str, job: JobFile) -> Service:
        review, loc = self.review, ("jobs", name)
        if flaw := name_flaw(name, self.hostname):
            review.at_key(loc, *flaw)
        if name in self.known:
            review.at_key(loc, f"there is a service '{name}' too", "give one of them another name")
        if job.command is None and review.sound(*loc, "command"):
            review.at_key(loc, "nothing to run", "add 'command'")
        self._check_others(loc, job)
        scope = references.Scope(
            own=name,
            ports=self.ports.names(),
            services=self.known,
            calls=job.calls if review.sound(*loc, "calls") else self.known,
            has_port=False,
            environ=self.environ,
        )
        return Service(
            name=name,
            workload=Command(argv=self._argv((*loc, "command"), job.command, scope) if job.command else ()),
            folder=self._folder(loc, job),
            replicas=0,
            env=given.variables(job.secrets, self.variables.of(loc, job, self.file.defaults, scope)),
            secret_files=given.files(job.secrets),
            env_files=(*env_files(self.file.defaults), *env_files(job)),
            calls=tuple(job.calls),
            edges=self._edges(loc, job),
            restart=Restart.NEVER,
            files=self.mounts.files(loc, job, scope),
            volumes=self.mounts.volumes(loc, job, scope),
            python=job.python or "",
            node=job.node or "",
            database=self.resources.database(loc, job),
            uses=self.resources.uses(loc, job),
            job=Job(schedule=job.schedule or "", timeout_s=seconds(job.timeout) if job.timeout else None),
        )

    def _folder(self, loc: Loc, service: ServiceFile | JobFile) -> str:
        if service.cwd is None:
            return str(self.folder)
        folder = self.folder / service.cwd
        try:
            if folder.is_dir():
                return str(folder.resolve())
            what = "is no folder" if folder.exists() else "does not exist"
        except OSError as error:
            what = f"cannot be used: {error.strerror}"
        self.review.at_value(
            (*loc, "cwd"), f"{quoted(str(folder), limit=200)} {what}", "it is relative to the app file"
        )
        return str(self.folder)

    def _check_others(self, place: Loc, part: ServiceFile | JobFile) -> None:
        """`calls` names services that exist, once each, and can be called."""
        seen: set[str] = set()
        for loc, other in traffic.called(self.review, place, part):
            if other not in self.known:
                self.review.at_value(loc, f"there is no service {quoted(other)}", self._near(other))
            elif other in seen:
                self.review.at_value(loc, f"'{other}' is named twice", "remove one")
            else:
                self._check_callable(loc, other)
            seen.add(other)

    def _edges(self, loc: Loc, part: ServiceFile | JobFile) -> tuple[tuple[str, Policy], ...]:
        return traffic.edges(self.review, loc, part, self.file.services, {n: self.ports.of(n) for n in part.calls})

    def _check_callable(self, loc: Loc, other: str) -> None:
        if other in self.file.services and not self.ports.of(other) and self.ports.sound(other):
            self.review.at_value(loc, f"'{other}' has no port, so it cannot be called", f"add 'port' to '{other}'")

    def _gateway(self) -> Gateway | None:
        gateway = self.file.gateway
        if gateway is None:
            return None
        for key, hint in (("port", "add it: port: 8080"), ("routes", "add them: routes: {/: web}")):
            if not getattr(gateway, key) and self.review.sound("gateway", key):
                self.review.at_key(("gateway",), f"'{key}' is missing", hint)
        routes: dict[tuple[str | None, str], Route] = {}
        for key, written in gateway.routes.items():
            service = written.service
            loc: Loc = ("gateway", "routes", key)
            parsed = parse_route(key)
            if isinstance(parsed, str):
                self.review.at_key(loc, parsed, "write /path, or host/path")
                continue
            if service is None:
                if self.review.sound(*loc):
                    self.review.at_value(loc, "'service' is missing", "name the service that gets these requests")
                continue
            host, path = parsed
            if parsed in routes:
                self.review.at_key(loc, f"this is the same as the route to '{routes[parsed].service}'", "remove one")
            routes[parsed] = route(self.review, loc, written, host, path, self.ports.of(service))
            if service not in self.known:
                self.review.at_value(loc, f"there is no service {quoted(service)}", self._near(service))
            else:
                self._check_callable(loc, service)
        trusted = tuple(dict.fromkeys(gateway.trusted_proxies))
        return Gateway(port=gateway.port or 0, routes=tuple(routes.values()), trusted_proxies=trusted)

    def _report(self, loc: Loc, flaws: Sequence[references.Flaw]) -> None:
        for flaw in flaws:
            self.review.at_value(loc, flaw.message, flaw.way_out, offset=flaw.offset)

    def _near(self, name: str) -> str:
        return did_you_mean(name, self.known)


def parse_route(key: str) -> tuple[str | None, str] | str:
    """`/users` -> (None, '/users'); `shop.localhost/` -> ('shop.localhost', '/'); else what is wrong with it.

    A trailing slash goes: `/users` takes `/users/` too.
    """
    host, slash, rest = key.partition("/")
    if not slash:
        return "a route has a path, which starts with /"
    host = host.lower()
    if host and (len(host) > 253 or not _HOST.match(host)):
        return f"{quoted(host)} is no host name"
    path = "/" + rest
    if not path.isascii() or not path.isprintable() or any(c in path for c in ' ?#*{}"<>\\^`|'):
        return "a path is as it stands in a request: ASCII, without spaces, ?, # and wildcards"
    if "//" in path or any(part in (".", "..") for part in path.split("/")):
        return "a path has no empty parts and no . or .."
    return host or None, path.rstrip("/") or "/"
