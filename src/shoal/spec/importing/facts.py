"""One service of a compose file together with its Dockerfile: what it runs, where that is on disk, where it listens."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

from shoal.spec.importing import commands, dockerfile, known, notation, steps
from shoal.spec.importing.commands import Command
from shoal.spec.importing.dockerfile import Stage
from shoal.spec.importing.mapping import ImageFiles
from shoal.spec.importing.notation import Mount, PortMapping
from shoal.spec.importing.reading import Folder
from shoal.spec.importing.report import Lost
from shoal.spec.importing.variables import Variables, literal

_MADE = re.compile(r"[\w-][\w./-]*\.(?:jar|dll|js|mjs|cjs)")
"""A file that a program is, or that a build makes one of."""


class Kind(Enum):
    NATIVE = "native"
    """Its command can be started here."""
    OUTSIDE = "outside"
    """An image that somebody else makes."""
    STATIC = "static"
    """Files that a web server serves."""
    UNKNOWN = "unknown"
    """What it runs was not found."""


@dataclass(slots=True)
class Facts:
    """What is known of a service. Paths are relative to the compose file's folder."""

    name: str
    parts: dict[str, Any]
    kind: Kind = Kind.UNKNOWN
    image: str = ""
    stage: Stage | None = None
    files: ImageFiles | None = None
    command: Command | None = None
    cwd: str = "."
    workdir: str = "/"
    port: int | None = None
    """Where it listens, as far as is known."""
    moved: bool = False
    """Its command listens on `$PORT`."""
    mappings: list[PortMapping] = field(default_factory=list)
    """Of `ports:`, then of `expose:` and EXPOSE."""
    mounts: list[Mount] = field(default_factory=list)
    why: str = ""
    """Of an unknown one."""
    way_out: str = ""
    notes: list[str] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    further: dict[str, int] = field(default_factory=dict)
    """Ports beside the main one, by a name."""
    given: dict[str, str] = field(default_factory=dict)
    """Secrets and configs: path in the container -> file."""
    site: str = ""
    """The folder of a static site."""

    def lose(self, key: str, what: str, why: str, way_out: str = "") -> None:
        self.lost.append(Lost(where=f"{self.name}.{key}", what=notation.short(what), why=why, way_out=way_out))

    @property
    def published(self) -> list[PortMapping]:
        return [mapping for mapping in self.mappings if mapping.host is not None and mapping.protocol == "tcp"]


def gather(name: str, parts: dict[str, Any], top: dict[str, Any], folder: Folder, variables: Variables) -> Facts:
    """`top`: the whole file, for the secrets and configs that it defines."""
    facts = Facts(name=name, parts=parts)
    facts.image = variables.now(parts["image"]) if isinstance(parts.get("image"), str) else ""
    facts.mounts = notation.mounts(_now(parts.get("volumes"), variables))
    for key, default in (("secrets", "/run/secrets/{}"), ("configs", "/{}")):
        _read_given(facts, key, default, top.get(key), folder, variables)
    if parts.get("build") is not None:
        _read_build(facts, folder, variables)
    elif facts.image:
        facts.kind = Kind.OUTSIDE
        if (title := known.image(facts.image)) is not None and title.role is known.Role.RUNTIME:
            _read_mounted(facts, folder)
    else:
        facts.why, facts.way_out = "it has neither 'build' nor 'image'", "add one"
    _read_ports(facts, variables)
    if facts.kind is Kind.NATIVE:
        facts.workdir = _workdir(facts, variables)
        _find_command(facts, variables)
    if facts.kind is Kind.NATIVE:
        _find_place(facts, folder)
        _find_port(facts, variables)
    return facts


def _read_given(facts: Facts, key: str, default: str, defined: Any, folder: Folder, variables: Variables) -> None:
    value = facts.parts.get(key)
    for item in value if isinstance(value, list) else []:
        name = item.get("source") if isinstance(item, dict) else item
        target = item.get("target") if isinstance(item, dict) else None
        target = target if isinstance(target, str) else str(name)
        whole = posixpath.normpath(target if target.startswith("/") else default.format(target))
        entry = defined.get(name) if isinstance(defined, dict) and isinstance(name, str) else None
        file = entry.get("file") if isinstance(entry, dict) else None
        path = folder.relative(variables.now(file)) if isinstance(file, str) else None
        if path is not None and folder.is_file(path):
            facts.given[whole] = path
        else:
            facts.lose(key, str(name), "its content is not in a file below this folder",
                       "give it to the program as a variable in `env`")  # fmt: skip


def _now(value: Any, variables: Variables) -> Any:
    if isinstance(value, dict):
        return {key: _now(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_now(item, variables) for item in value]
    return variables.now(value) if isinstance(value, str) else value


def _read_build(facts: Facts, folder: Folder, variables: Variables) -> None:
    build = _now(facts.parts["build"], variables)
    if isinstance(build, str):
        build = {"context": build}
    if not isinstance(build, dict):
        facts.why, facts.way_out = "'build' is not understood", "name a folder"
        return
    context = str(build.get("context") or ".")
    if re.match(r"[a-z+]+://|git@", context):
        facts.why, facts.way_out = f"its source is elsewhere ({context})", "clone it beside this file and import again"
        return
    relative = folder.relative(context)
    if relative is None:
        facts.why = f"its folder {context} is outside of the compose file's"
        facts.way_out = "move the compose file to a folder that holds all services, and import it there"
        return
    if not folder.is_folder(relative):
        facts.why, facts.way_out = f"its folder {context} does not exist", ""
        return
    facts.cwd = relative
    text = build.get("dockerfile_inline")
    if not isinstance(text, str):
        path = posixpath.join(relative, str(build.get("dockerfile") or "Dockerfile"))
        text = folder.text(path)
        if text is None and folder.relative(path) is None:
            facts.notes.append("its Dockerfile is outside of the compose file's folder and was not read")
    args = {key: value or "" for key, value in notation.mapping(build.get("args")).items()}
    target = build.get("target") if isinstance(build.get("target"), str) else None
    if text is not None:
        facts.stage = dockerfile.parse(text, args, target)
        if facts.stage is None and target:
            facts.why, facts.way_out = f"its Dockerfile has no stage '{target}'", ""
            return
    facts.kind = Kind.NATIVE
    facts.files = ImageFiles(folder, relative, facts.stage, _bound(facts, folder))
    if facts.stage is None and facts.parts.get("command") is None and facts.parts.get("entrypoint") is None:
        facts.kind = Kind.UNKNOWN
        facts.why = "there is no Dockerfile to read its command from"
        facts.way_out = "write the service with its 'command'"


def _read_mounted(facts: Facts, folder: Folder) -> None:
    """`image: node:20` with the source mounted into it: the source runs here as well."""
    bound = _bound(facts, folder)
    workdir = facts.parts.get("working_dir")
    if facts.parts.get("command") is None or not isinstance(workdir, str):
        return
    files = ImageFiles(folder, ".", None, bound)
    place = files.workdir(workdir)
    if place is not None and folder.is_folder(place):
        facts.kind, facts.files, facts.cwd = Kind.NATIVE, files, place
        facts.notes.append(f"{facts.image} is not used: what is mounted into it runs here")


def _bound(facts: Facts, folder: Folder) -> list[tuple[str, str]]:
    """Bind mounts of what is below the folder, and what is given as a file."""
    found = [(path, target) for target, path in facts.given.items()]
    for mount in facts.mounts:
        relative = folder.relative(mount.source) if mount.kind == "bind" and mount.source else None
        if relative is not None and mount.target.startswith("/"):
            found.append((relative, mount.target))
    return found


def _read_ports(facts: Facts, variables: Variables) -> None:
    mappings, strange = notation.ports(_now(facts.parts.get("ports"), variables))
    for item in strange:
        facts.lose("ports", item, "this port is not understood", "write it as 8080:80")
    mappings += notation.exposed(_now(facts.parts.get("expose"), variables))
    if facts.stage is not None:
        mappings += notation.exposed(list(facts.stage.exposed), declared=False)
    seen: set[tuple[int, str]] = set()
    for mapping in mappings:
        if (mapping.target, mapping.protocol) not in seen:
            seen.add((mapping.target, mapping.protocol))
            facts.mappings.append(mapping)


def _workdir(facts: Facts, variables: Variables) -> str:
    below = facts.stage.workdir if facts.stage is not None else "/"
    own = facts.parts.get("working_dir")
    return posixpath.normpath(posixpath.join(below, variables.now(own))) if isinstance(own, str) else below


def _words(value: Any, variables: Variables) -> list[str]:
    """Of compose's `command` or `entrypoint`, as the app file has them."""
    if isinstance(value, str):
        return [variables.later(word) for word in commands.split(value)]
    return [variables.later(word) for word in notation.texts(value)]


def _find_command(facts: Facts, variables: Variables) -> None:
    """As Docker puts it together: compose's entrypoint forgets the image's CMD, a shell's entrypoint takes none."""
    stage, parts = facts.stage, facts.parts
    given = {key: parts.get(key) for key in ("entrypoint", "command")}
    for key, value in given.items():
        # `sh -c text`: the text is the shell's, whose variables are those of `env`.
        words = commands.split(value) if isinstance(value, str) else notation.texts(value)
        if len(words) == 3 and not (key == "command" and given["entrypoint"]):
            script = commands.without_wrappers([variables.now(word) for word in words])
            if isinstance(script, str) and (key == "command" or not given["command"]):
                facts.command = script
                if stage is None or stage.entrypoint is None or key == "entrypoint":
                    return
    entrypoint: Command | None = None if stage is None else _own(stage.entrypoint)
    command: Command | None = None if stage is None else _own(stage.cmd)
    if given["entrypoint"] is not None:
        entrypoint, command = _words(given["entrypoint"], variables), None
    if given["command"] is not None:
        command = _words(given["command"], variables)
    if isinstance(entrypoint, str):
        whole: Command = entrypoint
    elif isinstance(command, str):
        whole = command if not entrypoint or _is_init(entrypoint) else [*entrypoint, "/bin/sh", "-c", literal(command)]
    else:
        whole = [*(entrypoint or []), *(command or [])]
    whole = commands.without_wrappers(whole)
    facts.command = whole
    if not whole:
        _without_command(facts)


def _own(form: str | tuple[str, ...] | None) -> Command | None:
    return form if form is None or isinstance(form, str) else [literal(word) for word in form]


def _is_init(words: list[str]) -> bool:
    return not commands.without_wrappers(words)


def _without_command(facts: Facts) -> None:
    """The base image knows what it runs: that is a static site, or nothing that can be told."""
    stage = facts.stage
    base = "" if stage is None else stage.base
    title = known.image(base)
    facts.kind = Kind.UNKNOWN
    facts.why = f"its command is in the base image {base}, which is not looked at" if base else "it names no command"
    facts.way_out = "write the service with its 'command'"
    if title is None or stage is None or title.role is not known.Role.PROXY or facts.files is None:
        return
    for place in ("/usr/share/nginx/html", "/usr/local/apache2/htdocs", "/srv", "/var/www/html"):
        site = facts.files.workdir(place)
        if site is not None and not site.startswith(".."):
            facts.kind, facts.site = Kind.STATIC, site
            return
    facts.why = f"it is {title.title} with a configuration of its own"
    facts.way_out = "Shoal's `gateway:` takes its place: `routes:` by path and host"


def _find_place(facts: Facts, folder: Folder) -> None:
    """The working directory on disk, and in the command what is a path of the container."""
    files, command = facts.files, facts.command
    assert files is not None and command is not None
    program = command[0] if isinstance(command, list) else command.split()[0]
    if program.startswith(("/", "./")) and facts.stage is not None:
        made = steps.go_program(facts.stage, posixpath.normpath(posixpath.join(facts.workdir, program)))
        if made is not None:
            return _build_go(facts, folder, *made)
    place = files.workdir(facts.workdir)
    if place is not None and folder.is_folder(place) and folder.relative(place) is not None:
        facts.cwd = posixpath.normpath(place)
    elif place is not None and facts.workdir != "/" and folder.relative(place) is not None:
        command = facts.command = _in_folder_to_be(facts, command, posixpath.normpath(place), folder)
    facts.command = localised(facts, command, folder)
    words = facts.command if isinstance(facts.command, list) else commands.simple_words(facts.command) or []
    if words and words[0].startswith("/") and not words[0].startswith(("/bin/", "/usr/bin/")):
        facts.notes.append(f"its program {words[0]} is a path in the container: make it, or change the command")
        facts.lose("command", words[0], "this program is in the image alone", "install it here, or change `command`")
    for word in words:
        if _MADE.fullmatch(word) and not folder.is_file(f"{facts.cwd}/{word}"):
            facts.notes.append(f"{word} is not here yet: its build makes it")
    return None


def _in_folder_to_be(facts: Facts, command: Command, place: str, folder: Folder) -> Command:
    """A working directory that only a build makes: it starts in the nearest one that is there."""
    start = place
    while start not in (".", "") and not folder.is_folder(start):
        start = posixpath.dirname(start)
    facts.cwd = start or "."
    prefix = relative_path(place, facts.cwd)
    words = commands.simple_words(command)
    if words is None:
        facts.notes.append(f"it should start in {place}, which is made by its build")
        return command
    facts.notes.append(f"{place} is made by its build")
    return [
        f"{prefix}/{word.removeprefix('./')}"
        if _MADE.fullmatch(word.removeprefix("./")) or word.endswith((".py", ".rb")) or (i == 0 and word[:2] == "./")
        else word
        for i, word in enumerate(words)
    ]


def _build_go(facts: Facts, folder: Folder, builder: Stage, workdir: str, package: str) -> None:
    """A Go program that the image's build makes is made at the start: the Go cache makes that quick."""
    assert facts.files is not None
    place = facts.files
    source = ImageFiles(folder, place.context, builder).workdir(workdir)
    facts.cwd = posixpath.normpath(source) if source is not None and folder.is_folder(source) else place.context
    rest = facts.command[1:] if isinstance(facts.command, list) else []
    arguments = " ".join(commands.quoted_word(word) for word in rest)
    program = '"$SHOAL_DATA_DIR/program"'
    facts.command = f"go build -o {program} {package} && exec {program} {arguments}".rstrip()
    facts.notes.append("built by go at its start, as the Dockerfile does")


def localised(facts: Facts, command: Command, folder: Folder) -> Command:
    """With paths of the container replaced by paths from the working directory, where they are known."""

    def local(word: str) -> str:
        if _MADE.fullmatch(word) and not folder.is_file(f"{facts.cwd}/{word}"):
            word = posixpath.join(facts.workdir, word)
            found = facts.files.find(word) if facts.files is not None else None
            rest = posixpath.relpath(word, facts.workdir)
            return rest if found is None or folder.relative(found) is None else relative_path(found, facts.cwd)
        found = facts.files.find(word) if facts.files is not None else None
        if found is None or folder.relative(found) is None:
            return word
        return relative_path(found, facts.cwd)

    def program(word: str) -> str:
        out = local(word) if word.startswith("/") or _MADE.fullmatch(word) else word
        return f"./{out}" if out != word and "/" not in out else out

    if isinstance(command, list):
        return [
            program(word) if i == 0 else local(word) if word.startswith("/") or _MADE.fullmatch(word) else word
            for i, word in enumerate(command)
        ]  # fmt: skip
    first = True

    def each(match: re.Match[str]) -> str:
        nonlocal first
        out = program(match.group()) if first else local(match.group())
        first = False
        return out

    return re.sub(r"(?<![^\s='\";&|(])(?:/[\w./-]+|[\w./-]+\.(?:jar|dll)\b)", each, command)


def relative_path(path: str, start: str) -> str:
    """From a folder to a path, both relative to the same folder."""
    ours, theirs = PurePosixPath(path).parts, PurePosixPath(start).parts
    common = 0
    while common < min(len(ours), len(theirs)) and ours[common] == theirs[common]:
        common += 1
    return "/".join([*[".."] * (len(theirs) - common), *ours[common:]]) or "."


def _find_port(facts: Facts, variables: Variables) -> None:
    """The port that it listens on; the command is believed first, then what is published, then what is exposed."""
    assert facts.command is not None
    declared = [mapping.target for mapping in facts.mappings if mapping.protocol == "tcp"]
    expected = declared[0] if declared else None
    heard = commands.listening(facts.command, expected)
    if expected is not None and heard.port is None:
        for other in declared[1:]:
            again = commands.listening(facts.command, other)
            if again.port is not None:
                heard = again
                break
    environment = notation.mapping(facts.parts.get("environment"))
    told = variables.now(environment.get("PORT") or "") or (facts.stage.env.get("PORT", "") if facts.stage else "")
    facts.command, facts.moved = heard.command, heard.moved
    by_env = int(told) if re.fullmatch(r"[1-9][0-9]{1,4}", told) and int(told) <= 65535 else None
    asked = _health_port(facts)
    certain = heard.port if heard.port in declared or not declared else None
    facts.port = certain or by_env or expected or heard.port or asked
    if heard.port is not None and facts.port != heard.port and not by_env:
        facts.port = heard.port


def _health_port(facts: Facts) -> int | None:
    check = facts.parts.get("healthcheck")
    test = check.get("test") if isinstance(check, dict) else facts.stage.health if facts.stage else None
    found = notation.health_url(notation.joined(test)) if test else None
    return found[0] if found else None
