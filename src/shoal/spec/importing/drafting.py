"""From facts to drafts: the keys of each service, with a comment where something was decided."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from shoal.spec.importing import commands, notation
from shoal.spec.importing.composefile import ComposeFile, depends_on
from shoal.spec.importing.facts import Kind
from shoal.spec.importing.filling import Filling
from shoal.spec.importing.keys import accepts, app_accepts, valid
from shoal.spec.importing.known import Role
from shoal.spec.importing.parts import Part, outside_port, title_of
from shoal.spec.importing.peers import Names
from shoal.spec.importing.reading import Folder
from shoal.spec.importing.variables import Variables
from shoal.spec.importing.writing import Draft

_CONDITIONS = {"service_healthy": "ready", "service_completed_successfully": "completed"}


class Drafting:
    def __init__(
        self, file: ComposeFile, folder: Folder, out: Path, variables: Variables, parts: dict[str, Part]
    ) -> None:
        self.file, self.folder, self.out, self.variables, self.parts = file, folder, out.resolve(), variables, parts
        self.owner = {host: name for name, part in parts.items() for host in part.hosts}
        self.names = Names(self.owner)
        self.labels = {part.label: name for name, part in parts.items()}
        self.label_names = Names(self.labels)
        self.more: dict[str, Any] = {}
        """`gateway`, `jobs`."""
        self.more_comments: dict[str, str] = {}
        self.missed: list[str] = []
        """Hosts that the service at hand names, and that are nowhere."""

    def run(self) -> None:
        for part in self.parts.values():
            self._begin(part)
        filling = Filling(self.folder, self.out, self.variables, self._renamed)
        for part in self.parts.values():
            if part.draft is not None and part.facts.kind is Kind.NATIVE:
                self.missed.clear()
                filling.fill(part)
                if self.missed:
                    names = ", ".join(dict.fromkeys(self.missed))
                    part.facts.notes.append(f"names {names}, which is left out")
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
        hits = self.names.found(text, variable)
        hits += [hit for hit in self.label_names.found(text, variable) if hit not in hits]
        return [(self.owner.get(host) or self.labels[host], port) for host, port in hits]

    def _is_shown(self, part: Part) -> bool:
        """Whether compose published its main port."""
        facts = part.facts
        runs = part.draft is not None and facts.kind is not Kind.OUTSIDE
        return runs and any(m.published for m in facts.mappings if m.target == facts.port)

    def _make_reachable(self) -> None:
        """Where a published port was another one than the service's, that is said; where it is lost, a gateway."""
        ports = [part.port for part in self.parts.values() if part.draft is not None and "port" in part.draft.keys]
        hidden: list[tuple[Part, int]] = []
        for part in self.parts.values():
            facts, draft = part.facts, part.draft
            if draft is None or facts.kind is Kind.OUTSIDE:
                continue
            first = next((m for m in facts.published if m.target == facts.port), None)
            shown = any(m.published for m in facts.mappings if m.target == facts.port)
            shared = ports.count(part.port) > 1
            if shared and sum(self._is_shown(other) for other in self.parts.values() if other.port == part.port) > 1:
                if first is not None and first.host is not None:
                    hidden.append((part, first.host))
                continue
            if shown and first is not None and first.host != part.port and accepts("publish", first.host):
                draft.keys["publish"] = first.host
            elif shown and first is not None and first.host != part.port:
                facts.notes.append(f"was http://localhost:{first.host}, is http://localhost:{part.port}")
            if shared and shown:
                draft.keys["publish"] = True  # by itself, a number that several have is not
            elif part.port is not None and not shown and not shared:
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
