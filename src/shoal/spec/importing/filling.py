"""The keys of a service that runs here: its command, its variables, its health, its life."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shoal.spec.check import label_from
from shoal.spec.importing import commands, notation, paces, steps
from shoal.spec.importing.environment import environment
from shoal.spec.importing.keys import accepts, first_accepted, valid
from shoal.spec.importing.parts import Part, covers_source
from shoal.spec.importing.reading import Folder
from shoal.spec.importing.variables import Variables
from shoal.spec.importing.writing import Draft
from shoal.spec.schema import MAX_REPLICAS

_READS_PORT = re.compile(
    r"""process\.env\.PORT\b|process\.env\[["']PORT|environ[^\n]{0,20}["']PORT["']|getenv\(["']PORT"""
)
_SERVER = re.compile(r"(gunicorn|uvicorn|hypercorn|daphne|granian|waitress)\b")
_HELPED = re.compile(r"\b(?:node|npm|npx|yarn|pnpm|bun|deno|python[0-9.]*|gunicorn|uvicorn|celery|install|go build)\b")
_PATH = re.compile(r"/[!-\"$-~]*\Z")
FURTHER_MAX = 8
"""Ports of one service beside the main one: a range of hundreds is no door of its own each."""


class Filling:
    def __init__(self, folder: Folder, out: Path, variables: Variables, renamed: Callable[[str, str], str]) -> None:
        """`renamed(text, variable)`: with the hosts changed that are called otherwise here."""
        self.folder, self.out, self.variables, self.renamed = folder, out, variables, renamed

    def fill(self, part: Part) -> None:
        facts, draft = part.facts, part.draft
        assert draft is not None and facts.command is not None
        if part.port is not None:
            self._further_ports(part, draft)
        made = environment(facts, self.variables, self.folder, self.out, self.renamed)
        if isinstance(facts.command, list):
            facts.command = [self.renamed(word, "") for word in facts.command]
        elif facts.command is not None:
            facts.command = self.renamed(facts.command, "")
        self._command(part, draft)
        self._files(part, draft)
        self._volumes(part, draft)
        if facts.cwd != ".":
            draft.keys["cwd"] = self._place(facts.cwd)
        elif self.out != self.folder.root:
            draft.keys["cwd"] = self._place(".")
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
        keys: dict[str, Any] = {"network": "own"} | ({"listen": facts.port} if part.port != facts.port else {})
        # Node and Python programs can be helped otherwise; what fetches something at its start needs the internet.
        if not _HELPED.search(notation.joined(facts.command)) and valid(
            {"command": "x", "port": part.port, **keys}, self.out
        ):
            draft.keys |= keys
            words = f"listens on {facts.port} by itself, so it has a network of its own, without the internet"
            draft.comment("network", "for a program that listens on a port of its own; without it, read $PORT")
        else:
            draft.comment("command", words)
        facts.notes.append(words)

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
        if "health" in draft.keys:
            paces.carry(check, part, draft)

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
        paces.carry_grace(part, draft)
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
        files: dict[str, Any] = {target: self._place(path) for target, path in facts.given.items()}
        files |= {target: {"content": text} for target, text in facts.inline.items()}
        for target, source in files.items():
            if accepts("files", {target: source}):
                draft.keys.setdefault("files", {})[target] = source
            else:
                facts.lose("secrets", target, "nothing can be put there", "let the program read it elsewhere")

    def _volumes(self, part: Part, draft: Draft) -> None:
        """Bind mounts and named volumes, but for the source over itself, which is what happens here anyway."""
        facts = part.facts
        for mount in facts.mounts:
            if not mount.source or mount.kind not in ("bind", "volume") or mount.source == "/var/run/docker.sock":
                continue
            source = mount.source
            if mount.kind == "bind":
                relative = self.folder.relative(source)
                if covers_source(part, mount) or not (relative is not None or source.startswith("/")):
                    continue
                place = source if relative is None else self._place(relative)
                if relative is not None and self.folder.is_file(relative) and mount.read_only:
                    if accepts("files", {mount.target: place}):
                        draft.keys.setdefault("files", {})[mount.target] = place
                        facts.carried.add(mount.written)
                    continue
                source = place if place.startswith(("/", "../")) else f"./{place}"
            elif mount.target.endswith("node_modules"):
                continue
            volume = f"{source}:{mount.target}{':ro' if mount.read_only else ''}"
            if valid({"command": "x", "volumes": [*draft.keys.get("volumes", []), volume]}, self.out):
                draft.keys.setdefault("volumes", []).append(volume)
                facts.carried.add(mount.written)
                below = facts.workdir.rstrip("/") + "/"
                if mount.kind == "volume" and below != "/" and mount.target.startswith(below):
                    facts.notes.append(f"finds its volume at {mount.target} alone, not beside its code: name that path")

    def _place(self, path: str) -> str:
        return os.path.relpath(self.folder.root / path, self.out)
