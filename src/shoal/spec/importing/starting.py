"""How a service is started: its command, in which folder, and the port on which it then listens."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from shoal.spec.importing import commands, known, notation, steps
from shoal.spec.importing.commands import Command
from shoal.spec.importing.dockerfile import Stage
from shoal.spec.importing.facts import Facts, Kind, relative_path
from shoal.spec.importing.mapping import ImageFiles
from shoal.spec.importing.reading import Folder
from shoal.spec.importing.variables import Variables, literal

SITES = ("/usr/share/nginx/html", "/usr/local/apache2/htdocs", "/srv", "/var/www/html")
"""What web servers' images serve."""
_MADE = re.compile(r"[\w-][\w./-]*\.(?:jar|dll|js|mjs|cjs)")
"""A file that a program is, or that a build makes one of."""


def working_folder(facts: Facts, variables: Variables) -> str:
    below = facts.stage.workdir if facts.stage is not None else "/"
    own = facts.parts.get("working_dir")
    return posixpath.normpath(posixpath.join(below, variables.now(own))) if isinstance(own, str) else below


def _words(value: Any, variables: Variables) -> list[str]:
    """Of compose's `command` or `entrypoint`, as the app file has them."""
    if isinstance(value, str):
        return [variables.later(word) for word in commands.split(value)]
    return [variables.later(word) for word in notation.texts(value)]


def find_command(facts: Facts, variables: Variables) -> None:
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
    for place in SITES:
        site = facts.files.workdir(place)
        if site is not None and not site.startswith(".."):
            facts.kind, facts.site = Kind.STATIC, site
            return
    facts.why = f"it is {title.title} with a configuration of its own"
    facts.way_out = "Shoal's `gateway:` takes its place: `routes:` by path and host"


def find_place(facts: Facts, folder: Folder) -> None:
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


def find_port(facts: Facts, variables: Variables) -> None:
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
