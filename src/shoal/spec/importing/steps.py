"""What the `RUN` lines of a Dockerfile prepare, sorted by whose task it becomes."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from shoal.spec.importing.commands import split
from shoal.spec.importing.dockerfile import Stage

_PACKAGES = re.compile(r"(?:apt-get|apt|apk|yum|dnf|microdnf)\s+(?:-\S+\s+)*(?:install|add)\s+(.*)", re.DOTALL)
_PIP = re.compile(r"(?:\S*python[0-9.]*\s+-m\s+)?(?:uv\s+)?pip[0-9.]*\s+install\s+(.*)", re.DOTALL)
_NODE = re.compile(r"(?:npm\s+(?:ci|install|i)|yarn(?:\s+install)?|pnpm\s+(?:i|install))(?:\s+-\S+)*\Z")
_BUILD = re.compile(
    r"(?:(?:npm|pnpm|yarn|bun)\s+(?:run\s+)?build\b|go\s+build\b|mvn\b|(?:\./)?mvnw\b|(?:\./)?gradlew?\b|cargo\s+build\b"
    r"|dotnet\s+publish\b|make\b|bundle\s+install\b|composer\s+install\b|\S*python[0-9.]*\s+\S*manage\.py\s+|npx\s+)"
)
_WITH_VALUE = {"-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--target", "-t", "--prefix", "-c",
               "--constraint", "--trusted-host", "--repository", "-X", "--root", "--retries", "--timeout"}  # fmt: skip


@dataclass(slots=True)
class Steps:
    python: list[str] = field(default_factory=list)
    """Packages that are installed by name, and not from a file."""
    system: list[str] = field(default_factory=list)
    node: list[str] = field(default_factory=list)
    """`npm ci` and the like."""
    build: list[str] = field(default_factory=list)
    """Commands that make something which is run or served."""


def steps(stage: Stage) -> Steps:
    """Of a stage and all those that it copies from."""
    found = Steps()
    for one in _stages(stage, 0):
        for _, script in one.runs:
            for command in _commands(script):
                _sort(command, found)
    for names in (found.python, found.system, found.node, found.build):
        names[:] = dict.fromkeys(names)
    return found


def _stages(stage: Stage, depth: int) -> Iterator[Stage]:
    # Those it copies from come first: what they make is there before.
    done: list[Stage] = []
    for copy in stage.copies:
        if copy.stage is not None and depth < 10 and not any(copy.stage is other for other in done):
            done.append(copy.stage)
            yield from _stages(copy.stage, depth + 1)
    yield stage


def _commands(script: str) -> Iterator[str]:
    for part in re.split(r"&&|\|\||;|\n", script):
        text = re.sub(r"^\s*(?:set\s+-\S+|[A-Z_][A-Z0-9_]*=\S*\s+)*", "", part).strip()
        if text:
            yield " ".join(text.split())


def _sort(command: str, found: Steps) -> None:
    if match := _PACKAGES.match(command):
        found.system += _names(match[1])
    elif match := _PIP.match(command):
        if not re.search(r"(?:^|\s)(?:-r|--requirement|-e|--editable|\.)(?:\s|=|$)", match[1]):
            found.python += [name for name in _names(match[1]) if name not in ("pip", "setuptools", "wheel", "uv")]
    elif _NODE.match(command):
        found.node.append(command)
    elif _BUILD.match(command):
        found.build.append(command)


def _names(text: str) -> Iterable[str]:
    words = iter(split(text))
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith(("-", "$", "\\", ".", "/")) and re.match(r"[A-Za-z0-9]", word):
            yield word


def go_program(stage: Stage, path: str) -> tuple[Stage, str, str] | None:
    """The stage, the working directory and the package of the `go build` that makes a program; None: none does."""
    for copy in reversed(stage.copies):
        if copy.stage is None:
            continue
        source = copy.source
        if copy.target != path:
            inside = posixpath.relpath(path, copy.target)
            if inside.startswith(".."):
                continue
            source = source if posixpath.basename(source) == inside else posixpath.join(source, inside)
        for workdir, script in copy.stage.runs:
            for command in _commands(script):
                made = _go_build(command, workdir)
                if made is not None and made[0] == source:
                    return copy.stage, workdir, made[1]
    return None


def _go_build(command: str, workdir: str) -> tuple[str, str] | None:
    """What a `go build` writes, and from which package."""
    if not re.match(r"go\s+build\s", command):
        return None
    words = split(command)
    made = next((b for a, b in pairwise(words) if a == "-o"), None)
    if made is None:
        return None
    last = words[-1]
    return posixpath.normpath(posixpath.join(workdir, made)), last if last.startswith(".") and last != made else "."
