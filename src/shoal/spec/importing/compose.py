"""`shoal import compose.yaml`: what each service becomes, who calls whom, and what is not carried over."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from shoal.errors import UsageError
from shoal.spec.check import label_from, name_flaw
from shoal.spec.importing import commands, leftovers, notation
from shoal.spec.importing.composefile import ComposeFile, depends_on
from shoal.spec.importing.drafting import Drafting
from shoal.spec.importing.facts import Kind
from shoal.spec.importing.gathering import gather
from shoal.spec.importing.known import Role
from shoal.spec.importing.parts import Part, shared_volumes, title_of
from shoal.spec.importing.peers import Names
from shoal.spec.importing.reading import Folder, parse_env
from shoal.spec.importing.report import Imported, Needed, Row
from shoal.spec.importing.settling import settle
from shoal.spec.importing.variables import Variables
from shoal.spec.problems import did_you_mean, quoted

PRIVILEGED = 1024


def import_compose(
    path: Path, data: bytes, out: Path, hostname: str, services: Collection[str] = (), profiles: Collection[str] = ()
) -> Imported:
    """`out`: the folder of the app file to be. Raises SpecError, UsageError."""
    folder = Folder(path.parent)
    file = ComposeFile(data, path.name, folder)
    variables = Variables(parse_env(folder.text(".env") or ""))
    chosen, left = _chosen(file, variables, services, profiles)
    parts = {name: Part(gather(name, file.services[name], file.top, folder, variables), "") for name in chosen}
    name = variables.now(file.top["name"]) if isinstance(file.top.get("name"), str) else folder.root.name
    _name(parts, hostname)
    _find_hosts(parts)
    _find_once(parts)
    _choose_ports(parts)
    drafting = Drafting(file, folder, out, variables, parts)
    drafting.run()
    if shared := shared_volumes(parts):
        drafting.more["volumes"] = shared
        drafting.more_comments["volumes"] = "One for all services that name it; any other is each service's own."
    lost = [*file.lost, *(item for part in parts.values() for item in part.facts.lost)]
    gone, unneeded = leftovers.leftovers(file, parts, profiles)
    lost += gone
    head = [
        f"Made from {path.name} by `shoal import`. `shoal check` looks at it, `shoal up` starts it.",
        "In compose every service can call every other one; here `calls` says who calls whom. All start at once, and "
        "`after` names what must be ready before.",
    ]
    tail = [f"Left out: {p.facts.name}, because {p.facts.why}." for p in parts.values() if p.draft is None]
    drafts = [part.draft for part in parts.values() if part.draft is not None]
    if not drafts and not drafting.more:
        raise UsageError(
            f"nothing in {path.name} can be run without containers",
            way_out="import a file with a service that has 'build'",
            detail="\n".join(f"{p.facts.name}: {p.facts.why}; {p.facts.way_out}" for p in parts.values()),
        )
    text, cut = settle(
        head, label_from(name, "app"), drafts, drafting.more, drafting.more_comments, tail, out, hostname,
        set(variables.required),
    )  # fmt: skip
    kept = {draft.name for draft in drafts}
    rows = [_row(part, kept) for part in parts.values()]
    rows += [Row(service=name, becomes="left out", notes=(f"its profile {why} is not chosen: --profile",))
             for name, why in left.items()]  # fmt: skip
    return Imported(
        kind="compose",
        source=path.name,
        text=text,
        rows=tuple(sorted(rows, key=lambda row: list(file.services).index(row.service))),
        lost=(*lost, *cut),
        needed=tuple(_needed(variables, text)),
        unneeded=tuple(unneeded),
    )


def _chosen(
    file: ComposeFile, variables: Variables, services: Collection[str], profiles: Collection[str]
) -> tuple[list[str], dict[str, str]]:
    """The services to import, and those that only a profile would have brought."""
    for name in services:
        if name not in file.services:
            raise UsageError(f"there is no service {quoted(name)}", way_out=did_you_mean(name, list(file.services)))
    has = {name: [variables.now(p) for p in notation.texts(s.get("profiles"))] for name, s in file.services.items()}
    if profiles and (unknown := set(profiles) - {p for own in has.values() for p in own} - {"*"}):
        raise UsageError(f"no service has the profile {quoted(sorted(unknown)[0])}")
    wanted = {n for n, own in has.items() if not own or "*" in profiles or set(own) & set(profiles)}
    if services:
        wanted = set()
        queue = list(services)
        while queue:
            name = queue.pop()
            if name in wanted or name not in file.services:
                continue
            wanted.add(name)
            queue += depends_on(file.services[name].get("depends_on"))
            queue += [link.partition(":")[0] for link in notation.texts(file.services[name].get("links"))]
    left = {} if services else {n: ", ".join(own) for n, own in has.items() if n not in wanted}
    return [name for name in file.services if name in wanted], left


def _name(parts: dict[str, Part], hostname: str) -> None:
    """Names that the app file can have; each once."""
    taken: set[str] = set()
    # Those that can keep their name come first.
    for name, part in sorted(parts.items(), key=lambda item: name_flaw(item[0], hostname) is not None):
        label = name if name_flaw(name, hostname) is None else label_from(name, "service")
        if name_flaw(label, hostname) is not None:
            label = f"{label[:54].rstrip('-')}-service"
        number = 2
        while label in taken:
            label, number = f"{label_from(name, 'service')[:58].rstrip('-')}-{number}", number + 1
        taken.add(label)
        part.label = label
        if label != name:
            part.facts.notes.append(f"its name is {label} now; `env` of the others was changed, their code was not")


def _find_hosts(parts: dict[str, Part]) -> None:
    for name, part in parts.items():
        part.hosts.add(name)
        raw = part.facts.parts
        for key in ("container_name", "hostname"):
            if isinstance(raw.get(key), str):
                part.hosts.add(raw[key])
        networks = raw.get("networks")
        for network in networks.values() if isinstance(networks, dict) else []:
            if isinstance(network, dict):
                part.hosts.update(notation.texts(network.get("aliases")))
        for link in notation.texts(raw.get("links")):
            target, _, alias = link.partition(":")
            if alias and target in parts:
                parts[target].hosts.add(alias)
    for name, part in parts.items():
        # A service's own name is stronger than another one's alias; what cannot be a host is none.
        others = set(parts) - {name}
        part.hosts = {host for host in part.hosts - others if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}", host)}


def _find_once(parts: dict[str, Part]) -> None:
    for part in parts.values():
        for other, how in depends_on(part.facts.parts.get("depends_on")).items():
            if other in parts and how.get("condition") == "service_completed_successfully":
                parts[other].once = True


def _choose_ports(parts: dict[str, Part]) -> None:
    """The container's port is the port in the mesh, except where it needs root."""
    names = Names(host for part in parts.values() for host in part.hosts)
    called: Counter[tuple[str, int]] = Counter()
    for part in parts.values():
        for value in notation.mapping(part.facts.parts.get("environment")).values():
            called.update((host, port) for host, port in names.found(value or "") if port is not None)
    for part in parts.values():
        facts = part.facts
        if facts.port is None and facts.kind is Kind.NATIVE and not part.once:
            # Nothing of its own says where it listens; the others may know.
            asked = [port for (host, port), _ in called.most_common() if host in part.hosts]
            facts.port = asked[0] if asked else None
            heard = commands.listening(facts.command or [], facts.port) if asked else None
            if heard is not None:
                facts.command, facts.moved = heard.command, facts.moved or heard.moved
        server = commands.python_server(facts.command) if facts.command is not None else None
        if facts.port is None and server is not None:
            facts.port = 8000
        if facts.kind is Kind.STATIC and facts.port is None:
            facts.port = 80
        part.port = facts.port
        if facts.kind is Kind.OUTSIDE:
            part.port = _port_outside(part, [port for (host, port), _ in called.most_common() if host in part.hosts])
    taken = {part.port for part in parts.values()} | {m.host for part in parts.values() for m in part.facts.published}
    for part in parts.values():
        if part.port is None or part.port >= PRIVILEGED or part.facts.kind not in (Kind.NATIVE, Kind.STATIC):
            continue
        host = next((m.host for m in part.facts.published if m.target == part.port), None)
        port = host if host is not None and host >= PRIVILEGED else 8000 + part.port
        while host != port and port in taken:
            port += 1
        taken.add(port)
        part.facts.notes.append(f"port {port} instead of {part.port}, which only root may take")
        part.port = port


def _port_outside(part: Part, called: list[int]) -> int | None:
    """The one port of an image that others call, or that such an image is known for."""
    declared = [mapping.target for mapping in part.facts.mappings if mapping.protocol == "tcp"]
    title = title_of(part)
    known = title.port if title is not None else None
    if called and (not declared or called[0] in declared or known is None):
        return called[0]
    if known is not None and (title is None or title.role is Role.DATA or not declared or known in declared):
        return known
    return declared[0] if declared else None


def _row(part: Part, kept: Collection[str]) -> Row:
    facts, draft = part.facts, part.draft
    if draft is None or draft.name not in kept:
        becomes = "a job" if part.once and not facts.why else "left out"
        return Row(service=facts.name, becomes=becomes, notes=tuple(filter(None, (facts.why, facts.way_out))))
    keys = draft.keys
    if "run" in keys:
        what = f"run {keys['run']}"
    else:
        what = next((key for key in ("command", "image", "external", "static") if key in keys), "command")
    words = [what if keys.get("port") or what != "command" else "runs once" if part.once else "worker"]
    if keys.get("port"):
        words.append(f"port {keys['port']}")
    if keys.get("replicas", 1) != 1:
        words.append(f"{keys['replicas']} replicas")
    return Row(service=facts.name, becomes=", ".join(words), notes=tuple(facts.notes))


def _needed(variables: Variables, text: str) -> Iterable[Needed]:
    found = [Needed(name=name, required=True, why=why) for name, why in variables.required.items()]
    found += [Needed(name=name, required=False, why=why) for name, why in variables.empty.items()]
    return (one for one in sorted(found, key=lambda n: (not n.required, n.name)) if f"${{{one.name}" in text)
