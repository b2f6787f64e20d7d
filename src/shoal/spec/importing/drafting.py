"""From facts to drafts: the keys of each service, with a comment where something was decided."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from shoal.spec.check import label_from
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
_CONDITIONS = {"service_healthy": "ready", "service_completed_successfully": "completed"}
_SERVER = re.compile(r"(gunicorn|uvicorn|hypercorn|daphne|granian|waitress)\b")
_PATH = re.compile(r"/[!-\"$-~]*\Z")


FURTHER_MAX = 8
"""Ports of one service beside the main one: a range of hundreds is no door of its own each."""


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
        self.missed: list[str] = []
        """Hosts that the service at hand names, and that are nowhere."""

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
        once = accepts("after", {"x": "completed"}) and accepts("restart", "never")
        if part.once and not (once and facts.kind is Kind.NATIVE):
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
        port = part.port
        if port is not None:
            address = f"127.0.0.1:{outside_port(part, port)}"
            tcp = {"protocol": "tcp"} if title is not None and title.role is Role.DATA and not title.http else {}
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
        self.missed.clear()
        if (part.port is not None and facts.parts.get("ports") is not None) or facts.parts.get("expose") is not None:
            self._further_ports(part, draft)
        made = environment(facts, self.variables, self.folder, self.out, self._renamed)
        if isinstance(facts.command, list):
            facts.command = [self._renamed(word, "") for word in facts.command]
        elif facts.command is not None:
            facts.command = self._renamed(facts.command, "")
        self._command(part, draft)
        self._files(part, draft)
        if facts.cwd != ".":
            draft.keys["cwd"] = self.place(facts.cwd)
        elif self.out != self.folder.root:
            draft.keys["cwd"] = self.place(".")
        if part.port is not None:
            draft.keys["port"] = part.port
        if made.files:
            draft.keys["env_file"] = made.files
        part.values = made.values
        if made.env:
            draft.keys["env"] = made.env
            for name, text in made.comments.items():
                draft.comment(f"env.{name}", text)
        self._health(part, draft)
        self._life(part, draft)
        self._prepare(part, draft)
        if self.missed:
            facts.notes.append(f"names {', '.join(dict.fromkeys(self.missed))}, which is left out")

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
        tool = self._npm_script(facts.cwd, facts.command or [])
        if tool is not None and re.match(r"(?:react-scripts|next|nuxt|remix-serve)\b", tool):
            return
        if text is None and tool is not None and (script := commands.script_of(tool)) is not None:
            text = self.folder.text(f"{facts.cwd}/{script}")
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

    def _npm_script(self, folder: str, command: commands.Command) -> str | None:
        """What `npm start` stands for."""
        words = commands.simple_words(command) or []
        if len(words) < 2 or words[0] not in ("npm", "yarn", "pnpm"):
            return None
        name = words[2] if words[1] == "run" and len(words) > 2 else words[1]
        try:
            scripts = json.loads(self.folder.text(f"{folder}/package.json") or "{}").get("scripts", {})
            return str(scripts[name])
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
            return None

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
            if accepts("protocol", "grpc"):
                draft.keys["protocol"] = "grpc"
        elif found is None:
            self._health_command(part, draft, test, words)
        elif found[0] not in (part.facts.port, part.port):
            part.facts.lose(key, words, f"it asks port {found[0]}, and the service listens on {part.facts.port}")
        elif not _PATH.match(found[1]) or not accepts("health", found[1]):
            part.facts.lose(key, words, "this is no path that could be asked for")
        else:
            draft.keys["health"] = found[1]
        paces = [name for name in ("interval", "timeout", "retries", "start_period") if name in check]
        if paces and "health" in draft.keys:
            part.facts.lose(key, ", ".join(paces), "Shoal asks at its own pace")

    def _health_command(self, part: Part, draft: Draft, test: Any, words: str) -> None:
        """A check by a command stays one, with the port that Shoal chooses."""
        script = words.removeprefix("CMD-SHELL ").removeprefix("CMD ")
        parts = [self.variables.now(item) for item in notation.texts(test)]
        if len(parts) > 1 and parts[0] == "CMD-SHELL":
            script = parts[1]
        if part.facts.moved:
            script = re.sub(rf"(?<![\w.-]){part.facts.port}(?!\w)", "$PORT", script)
        keys = {"command": "x", "port": part.port, "health": {"command": script}}
        if accepts("health", {"command": script}) and valid(keys, self.out):
            draft.keys["health"] = {"command": script}
        else:
            part.facts.lose("healthcheck", words, "Shoal asks over HTTP and runs no command",
                            "give it a path: health: /healthz")  # fmt: skip

    def _further_ports(self, part: Part, draft: Draft) -> None:
        """Ports beside the main one, where the schema has them."""
        facts = part.facts
        found: dict[str, int] = {}
        env = notation.mapping(facts.parts.get("environment"))
        for mapping in facts.mappings:
            number = mapping.target
            if mapping.protocol != "tcp" or number in (facts.port, *found.values()) or not mapping.declared:
                continue
            named = next((name for name, value in env.items() if value == str(number) and name.endswith("_PORT")), "")
            label = label_from(mapping.name or named.removesuffix("_PORT"), f"p{number}")
            label = label if label not in found else f"p{number}"
            keys = {"command": "x", "port": part.port, "ports": {**found, label: number}}
            if number >= 1024 and len(found) < FURTHER_MAX and valid(keys, self.out):
                found[label] = number
        if found:
            facts.further = found
            draft.keys["ports"] = dict(found)
            places = ", ".join(f"${'PORT_' + label.upper().replace('-', '_')}" for label in found)
            draft.comment("ports", f"it should listen on {places} for these")

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
        restart = "no" if part.once and restart is None else restart
        wanted = {"no": "never", "none": "never", "false": "never", "on-failure": "on-failure"}.get(
            str(restart).partition(":")[0]
        )
        signal = facts.parts.get("stop_signal")
        if isinstance(signal, str) and (name := first_accepted("stop_signal", signal, f"SIG{signal}")) is not None:
            draft.keys["stop_signal"] = name
        if wanted is not None and accepts("restart", wanted):
            draft.keys["restart"] = wanted
            if part.once:
                draft.comment("restart", "it runs once: others wait for its end")
        elif wanted is not None:
            facts.lose("restart", str(restart), "Shoal starts again whatever ends, after a back-off")

    def _prepare(self, part: Part, draft: Draft) -> None:
        """What the image's build did before."""
        facts = part.facts
        if facts.stage is None:
            return
        found = steps.steps(facts.stage)
        where = "" if facts.cwd == "." else f" in {facts.cwd}"
        words = notation.joined(facts.command)
        found.python = [p for p in found.python if not (server := _SERVER.match(p)) or
                        ("run" not in draft.keys and server[1] in words)]  # fmt: skip
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

    def _files(self, part: Part, draft: Draft) -> None:
        """`secrets` and `configs`: files at absolute paths, where the schema has them; else a path in a variable or in
        the command was changed, and anything else must be."""
        facts = part.facts
        for target, path in facts.given.items():
            if accepts("files", {target: self.place(path)}):
                draft.keys.setdefault("files", {})[target] = self.place(path)
                continue
            named = [v or "" for v in notation.mapping(facts.parts.get("environment")).values()]
            named += notation.texts(facts.parts.get("command"))
            if not any(target in text for text in named):
                facts.lose("secrets", target, "files are not put at absolute paths",
                           f"let the program read {relative_path(path, facts.cwd)}")  # fmt: skip

    def _renamed(self, text: str, variable: str) -> str:
        """With the hosts and ports that are others here."""

        def change(host: str, port: int | None) -> str:
            part = self.parts[self.owner[host]]
            whole = host if port is None else f"{host}:{port}"
            if part.draft is None:
                if part.facts.kind is not Kind.OUTSIDE or part.once:
                    self.missed.append(host)
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
        named = [host for name, value in part.values.items() for host, _ in self._found(value, name)]
        raw = [host for name, value in notation.mapping(facts.parts.get("environment")).items()
               for host, _ in self._found(value or "", name)]  # fmt: skip
        words = notation.joined(facts.command)
        spoken = [host for host, _ in self._found(words, "")]
        others = dict.fromkeys([*needs, *links, *named, *raw, *spoken])
        calls: list[str] = []
        after: dict[str, str] = {}
        for other in others:
            there = self.parts.get(other)
            if there is None or there.draft is None or there is part:
                continue
            if "port" in there.draft.keys or "external" in there.draft.keys:
                calls.append(there.label)
            if other in needs and there.facts.kind is Kind.NATIVE and there.draft.keys.get("replicas") != 0:
                condition = str(needs[other].get("condition"))
                after[there.label] = _CONDITIONS.get(condition, "started")
        if calls:
            draft.keys["calls"] = calls
            if set(calls) - {self.parts[n].label for n in needs if n in self.parts}:
                draft.comment("calls", "also those that it names in its variables or its command")
        if after and set(after.values()) == {"ready"}:
            draft.keys["after"] = list(after)
        elif after:
            # Without conditions: ready is more than started, and nothing waits for an end.
            otherwise = [label for label, what in after.items() if what != "completed"]
            draft.keys["after"] = after if accepts("after", after) else otherwise

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
            elif part.port is not None and not any(m.published for m in facts.mappings if m.target == facts.port):
                draft.keys["publish"] = False  # as in compose: the others reach it, people do not
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
