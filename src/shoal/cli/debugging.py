"""Which command line makes a service one that a debugger can attach to. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import shoal
from shoal.errors import UsageError
from shoal.model.app import Command, PythonApp, Service

HOOKS = Path(shoal.__file__).parent / "runner"
VARIABLE = "SHOAL_DEBUG"
PYTHON, NODE = "Python", "Node"
PORTS = {PYTHON: 5678, NODE: 9229}
"""What editors look at when they are told nothing."""
_SHELL = ("/bin/sh", "-c")
_HIDDEN = re.compile(r"[|&;<>()`]|\$\(")
"""What makes a shell's line more than one program and its arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Debugged:
    service: Service
    """One replica, which opens its debugger."""
    language: str
    address: str


def language_of(service: Service) -> str | None:
    """`Python`, `Node`, or None: no debugger is known."""
    match service.workload:
        case PythonApp():
            return PYTHON
        case Command():
            words, _ = _words(service.workload)
            program = PurePath(words[0]).name if words else ""
            if re.fullmatch(r"python(\d+(\.\d+)?)?", program):
                return PYTHON
            return NODE if program in ("node", "nodejs") else None
    return None


def debugged(service: Service, address: str) -> Debugged:
    """Raises UsageError: it is neither Python nor Node, or its command hides what it is."""
    language = language_of(service)
    if language is None:
        raise UsageError(
            f"--debug does not know how to debug {service.name}",
            way_out="its command must be `python ...` or `node ...` itself, or it is `run:`",
        )
    workload = service.workload
    if isinstance(workload, Command):
        words, prefix = _words(workload)
        hook = [str(HOOKS / "debugger.py")] if language == PYTHON else ["--require", str(HOOKS / "debugger.cjs")]
        flags = _flags(words[1:]) if language == PYTHON else []
        words = [words[0], *flags, *hook, *words[1 + len(flags) :]]
        if workload.argv[:2] == _SHELL:
            # Only what was inserted needs quotes: the rest is the shell's own text, with its variables.
            text = workload.argv[2]
            at = len(prefix) + _end_of_words(text[len(prefix) :], 1 + len(flags))
            line = f"{text[:at]} {shlex.join(hook)}{text[at:]}"
            workload = Command(argv=(*_SHELL, line))
        else:
            workload = Command(argv=tuple(words))
    env = (*((key, value) for key, value in service.env if key != VARIABLE), (VARIABLE, address))
    made = replace(service, workload=workload, env=env, replicas=1)
    return Debugged(service=made, language=language, address=address)


def _words(command: Command) -> tuple[list[str], str]:
    """Program and arguments, and what stands before them: `exec `. No words: a shell's line that is more than that."""
    if command.argv[:2] != _SHELL:
        return list(command.argv), ""
    text = command.argv[2]
    found = re.match(r"\s*(?:exec\s+)?", text)
    prefix = found[0] if found else ""
    if _HIDDEN.search(text):
        return [], prefix
    try:
        return shlex.split(text[len(prefix) :]), prefix
    except ValueError:
        return [], prefix


def _flags(arguments: list[str]) -> list[str]:
    """The interpreter's own that stand alone (`-u`, `-O`); those with a value are left to where they are."""
    count = 0
    while count < len(arguments) and re.fullmatch(r"-[bBdEiIOqsSuvx]+", arguments[count]):
        count += 1
    return arguments[:count]


def _end_of_words(text: str, count: int) -> int:
    """Where the first words of plain text end; flags and programs are written without quotes."""
    at = 0
    for found in list(re.finditer(r"\S+", text))[:count]:
        at = found.end()
    return at
