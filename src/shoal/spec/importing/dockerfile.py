"""A Dockerfile -> what an image made from it would run. Nothing is built, no base image is looked at."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

_INSTRUCTION = re.compile(r"\s*([A-Za-z]+)(?:\s+(.*))?\Z", re.DOTALL)
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\1")
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?\s*")
_REFERENCE = re.compile(r"\\\$|\$(?:\{([A-Za-z_]\w*)(?:(:[-+])([^}]*))?\}|([A-Za-z_]\w*))", re.ASCII)
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*'|["'\\])+""", re.DOTALL)

MAX_INSTRUCTIONS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """`COPY`: what is at `target` in the image comes from `source` of the context, or of another stage."""

    source: str
    target: str
    stage: Stage | None = None
    """None: the build context."""
    image: str = ""
    """`--from=` something that is no stage."""
    several: bool = False
    """One of several sources, or `target` was written as a folder: the source's name is kept, if it is a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One `FROM` and what follows it, with all that it has from the stages it is based on."""

    base: str
    """The image at the bottom: `python:3.12-slim`."""
    name: str = ""
    env: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    cmd: str | tuple[str, ...] | None = None
    """Text is for a shell."""
    entrypoint: str | tuple[str, ...] | None = None
    exposed: tuple[str, ...] = ()
    """As written: `8000`, `53/udp`, `3000-3005`."""
    health: str | None = None
    """The words of the test; `NONE`."""
    copies: tuple[Copy, ...] = ()
    runs: tuple[tuple[str, str], ...] = ()
    """Working directory and script of each `RUN`."""


def parse(text: str, args: Mapping[str, str] | None = None, target: str | None = None) -> Stage | None:
    """The stage that is built: `target`, else the last. None: there is no such stage."""
    stages: list[Stage] = []
    globals_: dict[str, str] = {}
    for i, (word, rest, heredoc) in enumerate(_instructions(text)):
        if i >= MAX_INSTRUCTIONS:
            break
        if word == "FROM":
            stages.append(_start(rest, stages, globals_))
        elif not stages:
            if word == "ARG":
                globals_ |= _arguments(rest, args or {}, globals_)
        else:
            stages[-1] = _apply(stages[-1], word, rest, heredoc, stages[:-1], args or {}, globals_)
    if target is None:
        return stages[-1] if stages else None
    return _stage(target, stages)


def _stage(name: str, stages: list[Stage]) -> Stage | None:
    for stage in reversed(stages):
        if stage.name and stage.name == name.lower():
            return stage
    # Not `isdigit`, which takes '²'.
    if re.fullmatch(r"[0-9]{1,4}", name) and int(name) < len(stages):
        return stages[int(name)]
    return None


def _start(rest: str, stages: list[Stage], known: Mapping[str, str]) -> Stage:
    _, rest = _flags(rest)
    words = substitute(rest, known).split()
    image = words[0] if words else "scratch"
    name = words[2].lower() if len(words) > 2 and words[1].lower() == "as" else ""
    below = _stage(image, stages) if not image.isdigit() else None
    return replace(below, name=name) if below is not None else Stage(base=image, name=name)


def _apply(
    stage: Stage,
    word: str,
    rest: str,
    heredoc: str,
    earlier: list[Stage],
    args: Mapping[str, str],
    globals_: Mapping[str, str],
) -> Stage:
    known = {**stage.args, **stage.env}
    match word:
        case "ARG":
            return replace(stage, args=stage.args | _arguments(rest, args, {**globals_, **known}))
        case "ENV":
            return replace(stage, env=stage.env | _assignments(rest, known))
        case "WORKDIR":
            return replace(stage, workdir=_join(stage.workdir, _unquoted(substitute(rest.strip(), known))))
        case "USER":
            return replace(stage, user=substitute(rest.strip(), known))
        case "EXPOSE":
            return replace(stage, exposed=(*stage.exposed, *substitute(rest, known).split()))
        case "CMD":
            return replace(stage, cmd=_form(rest))
        case "ENTRYPOINT":
            # An entrypoint forgets the base's CMD.
            return replace(stage, entrypoint=_form(rest), cmd=stage.cmd if stage.entrypoint is None else None)
        case "HEALTHCHECK":
            _, rest = _flags(rest)
            form = _form(rest.strip().removeprefix("CMD").strip())
            return replace(stage, health=form if isinstance(form, str) else " ".join(form))
        case "RUN":
            _, rest = _flags(rest)
            form = heredoc or _form(rest)
            script = form if isinstance(form, str) else " ".join(form)
            return replace(stage, runs=(*stage.runs, (stage.workdir, script)))
        case "COPY" | "ADD":
            return replace(stage, copies=(*stage.copies, *_copies(stage, rest, earlier, known)))
        case _:
            return stage


def _copies(stage: Stage, rest: str, earlier: list[Stage], known: Mapping[str, str]) -> Iterator[Copy]:
    flags, rest = _flags(rest)
    form = _form(substitute(rest, known))
    words = [_unquoted(word) for word in _WORD.findall(form)] if isinstance(form, str) else list(form)
    if len(words) < 2 or "<<" in rest:
        return
    *sources, target = words
    whole = _join(stage.workdir, target)
    origin = substitute(flags.get("from", ""), known)
    below = _stage(origin, earlier) if origin else None
    several = len(sources) > 1 or target.endswith("/") or target in (".", "..")
    for source in sources:
        yield Copy(
            source=_join("/", source) if origin else posixpath.normpath(source.lstrip("/") or "."),
            target=whole,
            stage=below,
            image=origin if below is None else "",
            several=several or any(c in source for c in "*?["),
        )


def _instructions(text: str) -> Iterator[tuple[str, str, str]]:
    """Word, the rest of the line with continuations joined, and the text of its first heredoc."""
    escape = "\\"
    if first := re.match(r"(?:#.*\n)*?#\s*escape\s*=\s*(`)", text):
        escape = first[1]
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        whole = line
        while whole.rstrip().endswith(escape):
            whole = whole.rstrip().removesuffix(escape)
            # Comments and empty lines within a continued one are skipped.
            more = next((m for m in lines if m.strip() and not m.lstrip().startswith("#")), None)
            if more is None:
                break
            whole += more
        match = _INSTRUCTION.match(whole)
        if match is None:
            continue
        word, rest = match[1].upper(), (match[2] or "").strip()
        heredoc = ""
        if word in ("RUN", "COPY", "ADD"):
            for i, (_, end) in enumerate(_HEREDOC.findall(rest)):
                body: list[str] = []
                for more in lines:
                    if more.strip() == end:
                        break
                    body.append(more)
                heredoc = "\n".join(body) if i == 0 else heredoc
        yield word, rest, heredoc


def _form(rest: str) -> str | tuple[str, ...]:
    """The exec form is a list in JSON; anything else is for a shell."""
    rest = rest.strip()
    if rest.startswith("["):
        try:
            words = json.loads(rest)
        except (ValueError, RecursionError):
            return rest
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return tuple(words)
    return rest


def _flags(rest: str) -> tuple[dict[str, str], str]:
    found: dict[str, str] = {}
    rest = rest.lstrip()
    while match := _FLAG.match(rest):
        found[match[1]] = match[2] or ""
        rest = rest[match.end() :]
    return found, rest


def _arguments(rest: str, given: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in _WORD.findall(rest):
        name, assigned, value = word.partition("=")
        if name in given:
            found[name] = given[name]
        elif assigned:
            found[name] = _unquoted(substitute(value, {**known, **found}))
        elif name in known:
            found[name] = known[name]
    return found


def _assignments(rest: str, known: Mapping[str, str]) -> dict[str, str]:
    words = _WORD.findall(rest)
    if words and "=" not in words[0]:  # the old form: ENV NAME all the rest
        name, _, value = rest.strip().partition(" ")
        return {name: substitute(value.strip(), known)}
    pairs = (word.partition("=") for word in words if "=" in word)
    return {name: _unquoted(value, lambda text: substitute(text, known)) for name, _, value in pairs if name}


def substitute(text: str, known: Mapping[str, str]) -> str:
    """`$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:+other}`."""

    def value(match: re.Match[str]) -> str:
        if match.group().startswith("\\"):
            return "$"
        found = known.get(match[1] or match[4], "")
        if match[2] == ":-":
            return found or match[3]
        return (match[3] if found else "") if match[2] == ":+" else found

    return _REFERENCE.sub(value, text)


def _unquoted(word: str, fill: Callable[[str], str] = str) -> str:
    """Without quotes and backslashes; `fill` is applied where a single quote does not forbid it."""
    out = []
    for part in re.findall(r"""'[^']*'|"(?:[^"\\]|\\.)*"|(?:[^"'\\]|\\.)+|.""", word, re.DOTALL):
        if len(part) > 1 and part[0] == part[-1] == "'":
            out.append(part[1:-1])
            continue
        inner = part[1:-1] if len(part) > 1 and part[0] == part[-1] == '"' else part
        out.append(re.sub(r"\\(.)", r"\1", fill(inner), flags=re.DOTALL))
    return "".join(out)


def _join(folder: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(folder, path)) if path else folder
