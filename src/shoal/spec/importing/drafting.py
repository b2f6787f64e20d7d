"""From facts to drafts: the keys of each service, with a comment where something was decided."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from shoal.spec.importing import commands, notation, steps
from shoal.spec.importing.composefile import ComposeFile, depends_on
from shoal.spec.importing.environment import environment
from shoal.spec.importing.facts import Kind, relative_path
from shoal.spec.importing.keys import accepts, app_accepts, first_accepted, valid
from shoal.spec.importing.known import Role
from shoal.spec.importing.parts import Part, outside_port, title_of
from shoal.spec.importing.peers import Names
from shoal.spec.importing.reading import Folder
from shoal.spec.importing.variables import Variables
from shoal.spec.importing.writing import Draft
from shoal.spec.schema import MAX_REPLICAS

_READS_PORT = re.compile(
    r"""process\.env\.PORT\b|process\.env\[["']PORT|environ[^\n]{0,20}["']PORT["']|getenv\(["']PORT"""
)
_PATH = re.compile(r"/[!-\"$-~]*\Z")


class Drafting:
    def __init__(
        self, file: ComposeFile, folder: Folder, out: Path, variables: Variables, parts: dict[str, Part]
    ) -> None:
        self.file, self.folder, self.out, self.variables, self.parts = file, folder, out.resolve(), variables, parts
        self.owner = {host: name for name, part in parts.items() for host in part.hosts}
        self.names = Names(self.owner)
        self.more: dict[str, Any] = {}
        """`gateway`, `jobs`."""
        self.more_comments: dict[str, str] = {}

    def run(self) -> None:
        for part in self.parts.values():
            self._begin(part)
        for part in self.parts.values():
            if part.draft is not None and part.facts.kind is Kind.NATIVE:
                self._fill(part)
        for part in self.parts.values():
            if part.draft is not None:
                self._connect(part)
        self._make_reachable()

    def place(self, path: str) -> str:
        """A path of the compose file's folder, as seen from the app file's."""
        return os.path.relpath(self.folder.root / path, self.out)

    def _begin(self, part: Part) -> None:
        """Decides whether it is carried over at all."""
        facts = part.facts
        if part.once:
            self._job(part)
        elif facts.kind is Kind.NATIVE:
            part.draft = Draft(part.label)
        elif facts.kind is Kind.STATIC:
            self._static(part)
        elif facts.kind is Kind.OUTSIDE:
            self._outside(part)

    def _job(self, part: Part) -> None:
        facts = part.facts
        words = facts.command if facts.kind is Kind.NATIVE else None
        if words:
            command = commands.calm(words)
            job: dict[str, Any] = {"command": command}
            if facts.cwd != ".":
                job["cwd"] = self.place(facts.cwd)
            if app_accepts("jobs", {part.label: job}):
                self.more.setdefault("jobs", {})[part.label] = job
                facts.notes.append("a job: others waited for its end")
                return
            shown = command if isinstance(command, str) else " ".join(commands.quoted_word(w) for w in command)
            facts.why = "it runs once and ends, and others wait for that"
            facts.way_out = f"run it by hand before the first `shoal up`: {notation.short(shown)}"
        elif not facts.why:
            facts.why, facts.way_out = "it runs once and ends, and others wait for that", "do by hand what it does"

    def _static(self, part: Part) -> None:
        site, facts = self.place(part.facts.site), part.facts
        port = {"port": part.port} if part.port is not None else {}
        for keys in ({"static": site}, {"static": {"folder": site}}, {"static": {"path": site}}):
            if valid({**keys, **port}, self.out):
                part.draft = Draft(part.label, {**keys, **port})
                part.draft.comment("static", "what the image's web server served")
                return
        facts.why = f"it is a static site ({facts.site}) behind a web server"
        facts.way_out = "serve it with what its tools have (`npm run preview`) as a `command`, or with a web server"

    def _outside(self, part: Part) -> None:
        facts, title = part.facts, title_of(part)
        if title is not None and title.role is Role.PROXY:
            facts.why = f"it is {title.title}, a proxy in front of the others"
            facts.way_out = "Shoal's `gateway:` takes its place: `routes:` by path and host"
            return
        what = title.title if title is not None else f"the image {facts.image}"
        port = facts.port or (title.port if title is not None and title.port is not None else None)
        declared = [m.target for m in facts.mappings if m.protocol == "tcp"]
        if port is None or (declared and port not in declared):
            port = declared[0] if declared else port
        part.port = port
        if port is not None:
            address = f"127.0.0.1:{outside_port(part, port)}"
            tcp = {"protocol": "tcp"} if title is not None and title.role is Role.DATA else {}
            for keys in (
                {"image": facts.image, "port": port, **tcp},
                {"image": facts.image, "port": port},
                {"external": address, "port": port, **tcp},
                {"external": address, **tcp},
                {"external": address, "port": port},
                {"external": address},
            ):
                if valid(keys, self.out):
                    part.draft = Draft(part.label, dict(keys))
                    if "external" in keys:
                        part.draft.comment("external", f"{what}, which Shoal does not run: start it outside")
                        facts.notes.append(f"start {what} outside, at {address}")
                    return
        facts.why = f"{what} is run from an image, and Shoal runs no containers"
        by_compose = f"docker compose up -d {facts.name}"
        where = f"at 127.0.0.1:{outside_port(part, port)}" if port is not None else "on this machine"
        published = any(m.target == port for m in facts.published)
        how = by_compose if published else f"from a package, or {by_compose} with its port published"
        facts.way_out = f"run it outside, {where} ({how}); the variables of the others name that place"

    def _fill(self, part: Part) -> None:
        facts, draft = part.facts, part.draft
        assert draft is not None and facts.command is not None
        made = environment(facts, self.variables, self.folder, self.out, self._secrets(part), self._renamed)
        self._command(part, draft)
        if facts.cwd != ".":
            draft.keys["cwd"] = self.place(facts.cwd)
        elif self.out != self.folder.root:
            draft.keys["cwd"] = self.place(".")
        if part.port is not None:
            draft.keys["port"] = part.port
        if made.files:
            draft.keys["env_file"] = made.files
        if made.env:
            draft.keys["env"] = made.env
            for name, text in made.comments.items():
                draft.comment(f"env.{name}", text)
        self._health(part, draft)
        self._life(part, draft)
        self._prepare(part, draft)

    def _command(self, part: Part, draft: Draft) -> None:
        facts = part.facts
        server = commands.python_server(facts.command or [])
        module = "" if server is None else server.target.partition(":")[0].replace(".", "/")
        here = any(
            self.folder.find(f"{facts.cwd}/{path}") for path in (f"{module}.py", f"{module}/__init__.py") if module
        )
        configured = self.folder.is_file(f"{facts.cwd}/gunicorn.conf.py")
        if server is not None and here and not configured and part.port is not None:
            draft.keys["run"] = server.target
            draft.comment("run", f"was served by {server.program}; Shoal serves it itself")
            if server.workers is not None and server.workers > 1:
                draft.keys["replicas"] = server.workers
                draft.comment("replicas", f"{server.program} had {server.workers} workers: a replica each")
            return
        command = commands.calm(facts.command or [])
        draft.keys["command"] = command
        if part.port is not None and not facts.moved:
            self._warn_of_port(part, draft)

    def _warn_of_port(self, part: Part, draft: Draft) -> None:
        facts = part.facts
        script = commands.script_of(facts.command or [])
        text = None if script is None else self.folder.text(f"{facts.cwd}/{script}")
        if text is not None and _READS_PORT.search(text):
            facts.notes.append(f"{script} reads $PORT")
            return
        words = f"listens on {facts.port} by itself: make it read $PORT"
        draft.comment("command", words)
        facts.notes.append(words)
        own = {"command": "x", "port": part.port, "network": "own"}
        if commands.script_of(facts.command or []) is None and accepts("network", "own") and valid(own, self.out):
            draft.keys["network"] = "own"
            draft.comment("network", "a network of its own, so that it can have the port that it insists on")
            if part.port != facts.port and accepts("listen", facts.port):
                draft.keys["listen"] = facts.port

    def _health(self, part: Part, draft: Draft) -> None:
        check = part.facts.parts.get("healthcheck")
        check = check if isinstance(check, dict) else {}
        test = check.get("test") or (part.facts.stage.health if part.facts.stage is not None else None)
        words = self.variables.now(notation.joined(test)) if test else ""
        if not words or words.split()[0] == "NONE" or notation.is_true(check.get("disable")):
            return
        found = notation.health_url(words)
        key = "healthcheck"
        if part.port is None:
            part.facts.lose(key, words, "a worker is ready when it runs, and there is nothing to ask")
        elif found is None and "grpc_health_probe" in words and accepts("health", "grpc"):
            draft.keys["health"] = "grpc"
        elif found is None:
            part.facts.lose(key, words, "Shoal asks over HTTP and runs no command", "give it a path: health: /healthz")
        elif found[0] not in (part.facts.port, part.port):
            part.facts.lose(key, words, f"it asks port {found[0]}, and the service listens on {part.facts.port}")
        elif not _PATH.match(found[1]) or not accepts("health", found[1]):
            part.facts.lose(key, words, "this is no path that could be asked for")
        else:
            draft.keys["health"] = found[1]
        paces = [name for name in ("interval", "timeout", "retries", "start_period") if name in check]
        if paces and "health" in draft.keys:
            part.facts.lose(key, ", ".join(paces), "Shoal asks at its own pace")

    def _life(self, part: Part, draft: Draft) -> None:
        facts = part.facts
        deploy = facts.parts.get("deploy")
        deploy = deploy if isinstance(deploy, dict) else {}
        written = deploy.get("replicas") or facts.parts.get("scale")
        number = self.variables.now(written) if isinstance(written, str) else ""
        if re.fullmatch(r"[0-9]{1,4}", number):
            replicas = int(number) * draft.keys.get("replicas", 1)
            if replicas > MAX_REPLICAS:
                facts.lose("deploy", f"replicas: {number}", f"Shoal runs at most {MAX_REPLICAS}")
            elif replicas != 1:
                draft.keys["replicas"] = replicas
        elif number:
            facts.lose("deploy", f"replicas: {number}", "this is no number")
        policy = deploy.get("restart_policy")
        restart = policy.get("condition") if isinstance(policy, dict) else None
        restart = restart or facts.parts.get("restart")
        wanted = {"no": "never", "none": "never", "false": "never", "on-failure": "on-failure"}.get(
            str(restart).partition(":")[0]
        )
        if wanted is not None and accepts("restart", wanted):
            draft.keys["restart"] = wanted
        elif wanted is not None:
            facts.lose("restart", str(restart), "Shoal starts again whatever ends, after a back-off")

    def _prepare(self, part: Part, draft: Draft) -> None:
        """What the image's build did before."""
        facts = part.facts
        if facts.stage is None:
            return
        found = steps.steps(facts.stage)
        where = "" if facts.cwd == "." else f" in {facts.cwd}"
        if found.python and "run" in draft.keys:
            found.python = [p for p in found.python if re.split(r"[=<>\[~!]", p)[0] not in ("gunicorn", "uvicorn")]
        if found.python:
            facts.notes.append(f"the image had {' '.join(found.python)} from pip: add to requirements.txt{where}")
        if found.system:
            facts.notes.append(f"the image had {' '.join(found.system)}: install on this machine what it needs")
        made_here = isinstance(facts.command, str) and facts.command.startswith("go build")
        build = [] if made_here else found.build
        lines = [*found.node, *build]
        if not lines:
            return
        script = " && ".join(lines)
        key = first_accepted("build", script)
        if key is not None and not re.search(r"(?:^|[\s=])/", script):
            draft.keys["build"] = key
        else:
            facts.notes.append(f"first, and after each change{where}: {notation.short(script, 100)}")

    def _secrets(self, part: Part) -> dict[str, str]:
        """Files of `secrets` and `configs` in the container -> where they are."""
        found: dict[str, str] = {}
        for key, default in (("secrets", "/run/secrets/{}"), ("configs", "/{}")):
            top = self.file.top.get(key)
            value = part.facts.parts.get(key)
            for item in value if isinstance(value, list) else []:
                name = item.get("source") if isinstance(item, dict) else item
                given = item.get("target") if isinstance(item, dict) else None
                target = given if isinstance(given, str) else str(name)
                whole = target if target.startswith("/") else default.format(target)
                entry = top.get(name) if isinstance(top, dict) and isinstance(name, str) else None
                file = entry.get("file") if isinstance(entry, dict) else None
                path = self.folder.relative(self.variables.now(file)) if isinstance(file, str) else None
                if path is not None and self.folder.is_file(path):
                    found[whole] = path
                    self._file(part, whole, path, key)
                else:
                    part.facts.lose(key, str(name), "its content is not in a file below this folder",
                                    "give it to the program as a variable in `env`")  # fmt: skip
        return found

    def _file(self, part: Part, target: str, path: str, key: str) -> None:
        draft = part.draft
        if draft is not None and accepts("files", {target: self.place(path)}):
            draft.keys.setdefault("files", {})[target] = self.place(path)
            return
        values = [v or "" for v in notation.mapping(part.facts.parts.get("environment")).values()]
        if target not in values:
            part.facts.lose(key, target, "files are not put at absolute paths",
                            f"let the program read {relative_path(path, part.facts.cwd)}")  # fmt: skip

    def _renamed(self, text: str, variable: str) -> str:
        """With the hosts and ports that are others here."""

        def change(host: str, port: int | None) -> str:
            part = self.parts[self.owner[host]]
            whole = host if port is None else f"{host}:{port}"
            if part.draft is None:
                if part.facts.kind is not Kind.OUTSIDE or part.once:
                    return whole
                there = outside_port(part, port)
                return "127.0.0.1" if port is None else f"127.0.0.1:{there}"
            if (port is not None and port == part.facts.port) or (
                port is None and part.facts.port == 80 and part.port != 80 and text != host
            ):
                port = part.port
            return part.label if port is None else f"{part.label}:{port}"

        return self.names.replaced(text, change, variable)

    def _connect(self, part: Part) -> None:
        """`calls` and `after`."""
        draft, facts = part.draft, part.facts
        assert draft is not None
        if facts.kind is not Kind.NATIVE:
            return
        needs = depends_on(facts.parts.get("depends_on"))
        links = [link.partition(":")[0] for link in notation.texts(facts.parts.get("links"))]
        named = [host for name, value in draft.keys.get("env", {}).items() for host, _ in self._found(value, name)]
        raw = [host for name, value in notation.mapping(facts.parts.get("environment")).items()
               for host, _ in self._found(value or "", name)]  # fmt: skip
        words = notation.joined(facts.command)
        spoken = [host for host, _ in self._found(words, "")]
        others = dict.fromkeys([*needs, *links, *named, *raw, *spoken])
        calls, after = [], []
        for other in others:
            there = self.parts.get(other)
            if there is None or there.draft is None or there is part:
                continue
            if "port" in there.draft.keys or "external" in there.draft.keys:
                calls.append(there.label)
            if other in needs and there.facts.kind is Kind.NATIVE and there.draft.keys.get("replicas") != 0:
                after.append(there.label)
        if calls:
            draft.keys["calls"] = calls
            if set(calls) - {self.parts[n].label for n in needs if n in self.parts}:
                draft.comment("calls", "also those that it names in its variables or its command")
        if after:
            draft.keys["after"] = after

    def _found(self, text: str, variable: str) -> list[tuple[str, int | None]]:
        """Services named in a text, under whichever name."""
        labels = {part.label: name for name, part in self.parts.items()}
        hits = self.names.found(text, variable)
        hits += [hit for hit in Names(labels).found(text, variable) if hit not in hits]
        return [(self.owner.get(host) or labels[host], port) for host, port in hits]

    def _make_reachable(self) -> None:
        """Where a published port was another one than the service's, that is said; where it is lost, a gateway."""
        ports = [part.port for part in self.parts.values() if part.draft is not None and "port" in part.draft.keys]
        hidden: list[tuple[Part, int]] = []
        for part in self.parts.values():
            facts, draft = part.facts, part.draft
            if draft is None or facts.kind is Kind.OUTSIDE:
                continue
            first = next((m for m in facts.published if m.target == facts.port), None)
            if ports.count(part.port) > 1:
                if first is not None and first.host is not None:
                    hidden.append((part, first.host))
            elif first is not None and first.host != part.port:
                if accepts("publish", first.host):
                    draft.keys["publish"] = first.host
                else:
                    facts.notes.append(f"was http://localhost:{first.host}, is http://localhost:{part.port}")
            elif first is None and part.port is not None and accepts("publish", False):
                draft.keys["publish"] = False
                draft.comment("publish", "it was not published")
        if not hidden:
            return
        port = next((host for _, host in hidden if host not in ports and host >= 1024), 8080)
        while port in ports:
            port += 1
        routes = {f"{part.label}.localhost/": part.label for part, _ in hidden}
        self.more["gateway"] = {"port": port, "routes": routes}
        self.more_comments["gateway"] = (
            "These have the same port, so none of them is published by it. They were http://localhost:"
            + ", :".join(str(host) for _, host in hidden)
            + "."
        )
        for part, host in hidden:
            part.facts.notes.append(f"was http://localhost:{host}, is http://{part.label}.localhost:{port}")
