"""The file as a whole, and its conversion to the model: names, ports, references, cycles."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from shoal.model.app import App, Command, Gateway, Names, PythonApp, Route, Service
from shoal.spec import references
from shoal.spec.document import Document, Loc
from shoal.spec.problems import SpecError, did_you_mean, quoted
from shoal.spec.review import Review
from shoal.spec.schema import AppFile, ServiceFile, is_label
from shoal.spec.surroundings import Variables, env_files, with_defaults

RESERVED = ("localhost", "envoy", "daemon", "keeper")
"""No service is called so: the machine's own name, and the parts of Shoal that `shoal logs` shows."""

_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z")
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
"""What resolvers take for an IPv4 address in one number."""


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
        services = {name: with_defaults(service, read.defaults) for name, service in read.services.items()}
        self.file: AppFile = read.model_copy(update={"services": services})
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
        published = self._published()
        services = [self._service(name, service, published) for name, service in self.file.services.items()]
        self._check_cycles()
        return App(name=name, services=tuple(services), gateway=self._gateway(), folder=str(self.folder))

    def _published(self) -> set[str]:
        """The services whose port is bound for people. Two claims of one number are a problem; a default never is."""
        wanted = Counter(s.port for s in self.file.services.values() if s.port is not None)
        claims: dict[int, str] = {}
        if self.file.gateway is not None and self.file.gateway.port is not None:
            wanted[self.file.gateway.port] += 1
            claims[self.file.gateway.port] = "the gateway"
        found: set[str] = set()
        for name, service in self.file.services.items():
            loc: Loc = ("services", name, "publish")
            if service.port is None:
                if service.publish and self.review.sound("services", name, "port"):
                    self.review.at_key(loc, "there is no port to publish", "add 'port'")
            elif service.publish:
                holder = claims.setdefault(service.port, f"'{name}'")
                if holder != f"'{name}'":
                    self.review.at_key(
                        loc,
                        f"port {service.port} is also published by {holder}",
                        "publish one of them, or give this one another port",
                    )
                found.add(name)
            elif service.publish is None and wanted[service.port] == 1:
                found.add(name)
        return found

    def _service(self, name: str, service: ServiceFile, published: set[str]) -> Service:
        review, loc = self.review, ("services", name)
        if flaw := name_flaw(name, self.hostname):
            review.at_key(loc, *flaw)
        self._check_others(name, service)
        if service.port is None and review.sound(*loc, "port"):
            if service.run is not None:
                review.at_key((*loc, "run"), "an application needs a port", "add 'port', where the others reach it")
            if service.health is not None:
                review.at_key((*loc, "health"), "without a port there is nothing to ask", "add 'port', or remove it")
        scope = references.Scope(
            services=self.known,
            calls=service.calls if review.sound(*loc, "calls") else self.known,
            has_port=service.port is not None or not review.sound(*loc, "port"),
            environ=self.environ,
        )
        return Service(
            name=name,
            workload=self._workload(loc, service, scope),
            folder=self._folder(loc, service),
            port=service.port,
            publish=name in published,
            replicas=service.replicas,
            env=self.variables.of(name, service, self.file.defaults, scope),
            env_files=(*env_files(self.file.defaults), *env_files(service)),
            health=service.health,
            calls=tuple(service.calls),
            after=tuple(service.after),
            names=Names(service.names),
        )

    def _workload(self, loc: Loc, service: ServiceFile, scope: references.Scope) -> PythonApp | Command:
        review = self.review
        if service.run is not None and service.command is not None:
            review.at_key((*loc, "command"), "a service has either 'run' or 'command'", "remove one")
        if service.run is not None:
            module, _, attribute = service.run.partition(":")
            return PythonApp(module=module, attribute=attribute)
        if isinstance(service.command, str):
            self._report((*loc, "command"), references.check_script(service.command, scope))
            return Command(argv=("/bin/sh", "-c", service.command))
        if service.command is not None:
            argv = []
            for i, argument in enumerate(service.command):
                text, flaws = references.fill(argument, scope)
                self._report((*loc, "command", i), flaws)
                argv.append(text)
            return Command(argv=tuple(argv))
        if review.sound(*loc, "run") and review.sound(*loc, "command"):
            review.at_key(loc, "nothing to run", "add 'run: module:attribute' for a Python app, or 'command'")
        return Command(argv=())

    def _folder(self, loc: Loc, service: ServiceFile) -> str:
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

    def _check_others(self, name: str, service: ServiceFile) -> None:
        """`calls` and `after` name services that exist, once each, and can do what is asked of them."""
        for key, others in (("calls", service.calls), ("after", service.after)):
            for i, other in enumerate(others):
                loc: Loc = ("services", name, key, i)
                if other not in self.known:
                    self.review.at_value(loc, f"there is no service {quoted(other)}", self._near(other))
                elif other in others[:i]:
                    self.review.at_value(loc, f"'{other}' is named twice", "remove one")
                elif key == "calls":
                    self._check_callable(loc, other)
                elif other in self.file.services and self.file.services[other].replicas == 0:
                    self.review.at_value(
                        loc, f"'{other}' has replicas: 0 and never gets ready", "give it one, or remove this"
                    )

    def _check_callable(self, loc: Loc, other: str) -> None:
        callee = self.file.services.get(other)
        if callee is not None and callee.port is None and self.review.sound("services", other, "port"):
            self.review.at_value(loc, f"'{other}' has no port, so it cannot be called", f"add 'port' to '{other}'")

    def _check_cycles(self) -> None:
        services = self.file.services
        for cycle in cycles({name: [a for a in s.after if a in services] for name, s in services.items()}):
            way = " -> ".join([*cycle, cycle[0]])
            self.review.at_key(
                ("services", cycle[0], "after"), f"each of these waits for the next for ever: {way}", "remove one"
            )

    def _gateway(self) -> Gateway | None:
        gateway = self.file.gateway
        if gateway is None:
            return None
        for key, hint in (("port", "add it: port: 8080"), ("routes", "add them: routes: {/: web}")):
            if not getattr(gateway, key) and self.review.sound("gateway", key):
                self.review.at_key(("gateway",), f"'{key}' is missing", hint)
        routes: dict[tuple[str | None, str], Route] = {}
        for key, service in gateway.routes.items():
            loc: Loc = ("gateway", "routes", key)
            parsed = parse_route(key)
            if isinstance(parsed, str):
                self.review.at_key(loc, parsed, "write /path, or host/path")
                continue
            host, path = parsed
            if parsed in routes:
                self.review.at_key(loc, f"this is the same as the route to '{routes[parsed].service}'", "remove one")
            routes[parsed] = Route(service=service, path=path, host=host)
            if service not in self.known:
                self.review.at_value(loc, f"there is no service {quoted(service)}", self._near(service))
            else:
                self._check_callable(loc, service)
        return Gateway(port=gateway.port or 0, routes=tuple(routes.values()))

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


def cycles(graph: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """At least one cycle of each knot in the graph; none when it has none. Every node named must be a key."""
    found: list[list[str]] = []
    done: set[str] = set()
    for start in graph:
        path: dict[str, int] = {}
        stack = [] if start in done else [(start, iter(graph[start]))]
        if stack:
            path[start] = 0
        while stack:
            node, rest = stack[-1]
            for follower in rest:
                if follower in path:
                    found.append(list(path)[path[follower] :])
                elif follower not in done:
                    path[follower] = len(stack)
                    stack.append((follower, iter(graph[follower])))
                    break
            else:
                stack.pop()
                del path[node]
                done.add(node)
    return found
