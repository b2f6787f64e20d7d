"""What a start command tells: where it listens, what it can be moved to, whether it is a plain ASGI or WSGI server.

A command is a list of words (the program and its arguments) or a text for a shell. Words are as the app file has them,
so a `$` in them may be a reference.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_core import PydanticCustomError

from shoal.spec.schema import MAX_REPLICAS, check_run

Command = str | list[str]

_INIT = {"tini", "dumb-init", "catatonit", "docker-init"}
_SHELLS = {"sh", "bash", "ash", "dash"}
_SAFE = re.compile(r"(?:[A-Za-z0-9_@%+:,./=-]|\$PORT(?![A-Za-z0-9_]))+")
_OPERATORS = re.compile(r"[;&|<>()`\n*?\[\]{}~#!\"'\\]|\$(?!PORT\b)")

_LISTEN = re.compile(
    r"(?P<head>(?:[a-z][a-z0-9+.-]*://)?)(?P<host>0\.0\.0\.0|127\.0\.0\.1|localhost|\[::1?\]|\*|)(?P<colon>:)(?P<port>\d{2,5})\Z"
)
_CERTAIN_FLAGS = {"--port", "--bind", "--server.port", "--http-port", "--listen", "--http.port", "-Dserver.port"}
_SHORT_FLAGS = {"-p", "-b", "-l", "-port", "-S", "--addr", "--address", "--http", "-addr", "-listen", "--http-address"}
_HOST_FLAGS = {"--host", "-H", "--hostname", "--ip", "--server.address"}

_SERVERS = {
    # Program -> the port that it takes when nothing names one; None: it reads $PORT by itself.
    "uvicorn": 8000, "hypercorn": 8000, "daphne": 8000, "granian": 8000, "waitress-serve": 8080, "gunicorn": None,
    "flask": 5000, "fastapi": 8000, "streamlit": 8501, "puma": 9292, "rails": 3000, "serve": 3000, "http-server": 8080,
    "next": None, "php": 8000, "runserver": 8000, "http.server": 8000, "vite": 5173, "nuxt": None,
}  # fmt: skip

_HARMLESS = {
    # Options of servers that say nothing about what is served. True: a value follows.
    "--host": True, "--port": True, "--bind": True, "-b": True, "-p": True, "--workers": True, "-w": True,
    "--reload": False, "--worker-class": True, "-k": True, "--log-level": True, "--access-logfile": True,
    "--error-logfile": True, "--access-log": False, "--no-access-log": False, "--proxy-headers": False,
    "--forwarded-allow-ips": True, "--threads": True, "--timeout": True, "-t": True, "--keep-alive": True,
    "--timeout-keep-alive": True, "--graceful-timeout": True, "--max-requests": True, "--max-requests-jitter": True,
    "--preload": False, "--no-server-header": False, "--loop": True, "--http": True, "--lifespan": True,
    "--worker-tmp-dir": True, "--capture-output": False, "--use-colors": False, "--no-use-colors": False,
    "--interface": True, "--listen": True, "--log-file": True, "--reload-dir": True,
}  # fmt: skip
_PYTHON_SERVERS = {"uvicorn", "gunicorn", "hypercorn", "daphne", "granian", "waitress-serve"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where a command listens."""

    command: Command
    """With its own port replaced by `$PORT`, where that is certain."""
    port: int | None = None
    """What it names, or takes when it names none. None: nothing is known."""
    moved: bool = False
    """It listens on `$PORT` now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonServer:
    """A server of ASGI or WSGI applications, and nothing else: Shoal serves the application itself."""

    program: str
    target: str
    workers: int | None = None


def without_wrappers(command: Command) -> Command:
    """Without an init (a keeper reaps), `exec`, and a shell that would only be asked to run a text."""
    if isinstance(command, str):
        return command.strip()
    words = list(command)
    while words and _name(words[0]) in _INIT:
        rest = words[1:]
        while rest and rest[0].startswith("-"):
            flag = rest.pop(0)
            if flag == "--":
                break
        words = rest
    if len(words) == 3 and _name(words[0]) in _SHELLS and re.fullmatch(r"-[elux]*c[elux]*", words[1]):
        return words[2].strip()
    return words


def simple_words(command: Command) -> list[str] | None:
    """The words of a command that needs no shell; None when only a shell knows."""
    if isinstance(command, list):
        words = command
    elif _OPERATORS.search(command.replace("${PORT}", "$PORT")):
        return None
    else:
        words = command.replace("${PORT}", "$PORT").split()
    return words[1:] if words[:1] == ["exec"] else words


def calm(command: Command) -> Command:
    """Words that need no quotes are nicer as one text; a shell's text of one simple program is what it is."""
    if isinstance(command, list) and command and all(_SAFE.fullmatch(word) for word in command):
        return " ".join(command) if "=" not in command[0] else command
    return command


def python_server(command: Command) -> PythonServer | None:
    """None: it is no such server, or something in its line is not understood."""
    words = simple_words(command)
    if words is None:
        return None
    if len(words) > 2 and re.fullmatch(r"python[0-9.]*", _name(words[0])) and words[1] == "-m":
        words = words[2:]
    if not words or _name(words[0]) not in _PYTHON_SERVERS:
        return None
    program, *rest = words
    targets: list[str] = []
    workers: int | None = None
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            targets.append(word)
            continue
        flag, assigned, value = word.partition("=")
        if flag not in _HARMLESS:
            return None
        if _HARMLESS[flag] and not assigned:
            if not rest:
                return None
            value = rest.pop(0)
        if flag in ("--workers", "-w"):
            if not re.fullmatch(r"[1-9][0-9]?", value) or int(value) > MAX_REPLICAS:
                return None
            workers = int(value)
    if len(targets) != 1 or ":" not in targets[0]:
        return None
    try:
        check_run(targets[0])
    except PydanticCustomError:
        return None
    return PythonServer(program=_name(program), target=targets[0], workers=workers)


def listening(command: Command, port: int | None) -> Listening:
    """`port`: where the service is known to listen, if it is: then less certain words are believed too."""
    if isinstance(command, list):
        words, port_found, moved = _moved(command, port)
        added, default = _added(words, moved)
        return Listening(command=added or words, port=port_found or default, moved=moved or added is not None)
    if re.search(r"\$(?:PORT\b|\{PORT[}:])", command):
        otherwise = re.search(r"\$\{PORT:-(\d{2,5})\}", command)
        return Listening(command=command, port=_number(otherwise[1]) if otherwise else None, moved=True)
    # Words and what is between them, so that the text stays as it is.
    parts = re.split(r"(\s+|[;&|()]+)", command)
    places = [i for i, part in enumerate(parts) if i % 2 == 0 and part]
    words, port_found, moved = _moved([parts[i] for i in places], port)
    for i, word in zip(places, words, strict=True):
        parts[i] = word
    text = "".join(parts)
    simple = simple_words(text)
    added, default = (None, None) if simple is None else _added(simple, moved)
    if added is not None:
        text = " ".join([*(["exec"] if text.startswith("exec ") else []), *added])
    return Listening(command=text, port=port_found or default, moved=moved or added is not None)


def _moved(words: Sequence[str], port: int | None) -> tuple[list[str], int | None, bool]:
    """The words, the port found in them, and whether `$PORT` is in its place."""
    out = list(words)
    known = any(_name(word) in _SERVERS for word in words)
    found: int | None = None
    moved = any(re.search(r"\$(?:PORT\b|\{(?:PORT|port)\})", word) for word in words)
    for i, word in enumerate(words):
        flag, assigned, value = word.partition("=")
        before = words[i - 1] if i else ""
        if assigned and flag in _CERTAIN_FLAGS | _SHORT_FLAGS:
            certain, head, value = flag in _CERTAIN_FLAGS, f"{flag}=", value
        elif before in _CERTAIN_FLAGS | _SHORT_FLAGS:
            certain, head, value = before in _CERTAIN_FLAGS, "", word
        elif re.fullmatch(r"-[bp]:?\d{2,5}", word) and known:
            certain, head, value = True, word[:2], word[2:]
        elif before in ("runserver", "http.server") or (i > 1 and words[i - 2] == "runserver" and before[:1] == "-"):
            certain, head, value = True, "", word
        else:
            certain, head, value = False, "", word
            spoken = _LISTEN.match(word)
            if spoken is None or spoken["host"] not in ("0.0.0.0", "[::]") or spoken["head"]:
                continue
            certain = True
        quote = value[:1] if value[:1] in "'\"" and value[-1:] == value[:1] and len(value) > 1 else ""
        moving = _port_in(value.strip("'\"") if quote else value)
        if moving is None:
            continue
        number, text = moving
        certain = certain or re.search(r"(?:0\.0\.0\.0|\[::\]):", value) is not None
        if not (certain or known or number == port):
            continue
        if found is not None and number != found:
            continue
        found, moved = number, True
        quote = '"' if quote else ""  # the shell fills in $PORT only there
        out[i] = f"{head}{quote}{text}{quote}"
    if moved:
        _stay_at_home(out)
    return out, found, moved


def _stay_at_home(words: list[str]) -> None:
    """In a container 0.0.0.0 is its own network; on a machine it would be everybody's."""
    for i, word in enumerate(words):
        flag, assigned, value = word.partition("=")
        if assigned and flag in _HOST_FLAGS and value in ("0.0.0.0", "::"):
            words[i] = f"{flag}=127.0.0.1"
        elif i and words[i - 1] in _HOST_FLAGS and word in ("0.0.0.0", "::"):
            words[i] = "127.0.0.1"


def _port_in(value: str) -> tuple[int, str] | None:
    """The port of `8000`, `:8000`, `0.0.0.0:8000`, `tcp://0.0.0.0:8000`, and the value with `$PORT` instead."""
    if re.fullmatch(r"[0-9]{2,5}", value):
        number = _number(value)
        return None if number is None else (number, "$PORT")
    match = _LISTEN.match(value)
    number = _number(match["port"]) if match else None
    return (number, f"{match['head']}127.0.0.1:$PORT") if match and number else None


def _added(words: Sequence[str], moved: bool) -> tuple[list[str] | None, int | None]:
    """With the port named, for a server that can be told and was not; and the port it would have taken."""
    rest = list(words)
    if len(rest) > 2 and re.fullmatch(r"python[0-9.]*", _name(rest[0])) and rest[1] == "-m":
        rest = rest[2:]
    program = _name(rest[0]) if rest else ""
    if moved:
        return None, None
    if program == "gunicorn":
        # It takes $PORT by itself, unless it was given another place, which would have been found above.
        told = any(word.startswith(("-b", "--bind", "-c", "--config")) for word in rest)
        return (None, 8000) if told else ([*words], 8000)
    if program == "next" and rest[1:2] in (["start"], ["dev"]):
        return [*words], 3000
    if program in ("uvicorn", "hypercorn", "fastapi") or (program == "flask" and "run" in rest):
        flags = ["--bind", "127.0.0.1:$PORT"] if program == "hypercorn" else ["--port", "$PORT"]
        out = [*words, *flags]
        _stay_at_home(out)
        return out, _SERVERS[program]
    if rest[-1:] == ["runserver"] and any(word.endswith("manage.py") for word in rest):
        return [*words, "127.0.0.1:$PORT"], 8000
    return None, None


def is_python(command: Command) -> bool:
    words = simple_words(command) or []
    return bool(words) and re.fullmatch(r"python[0-9.]*", _name(words[0])) is not None


def script_of(command: Command) -> str | None:
    """The file that `node server.js` or `python app.py` runs; None: not one of these."""
    words = simple_words(command) or []
    if len(words) < 2 or not re.fullmatch(r"python[0-9.]*|node|nodejs|nodemon|ts-node|deno|bun|ruby", _name(words[0])):
        return None
    return next((word for word in words[1:] if re.search(r"\.(?:py|js|mjs|cjs|ts|rb)\Z", word)), None)


def _name(word: str) -> str:
    return word.rpartition("/")[2]


def _number(text: str) -> int | None:
    return int(text) if 1 <= int(text) <= 65535 else None


def split(text: str) -> list[str]:
    """A compose `command:` in one string, into words as compose does it: no shell runs it. Text that cannot be split
    (a quote without its other half) is taken word by word."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def quoted_word(word: str) -> str:
    """One word for a shell; `$PORT` in it stays a variable."""
    return word if _SAFE.fullmatch(word) else shlex.quote(word)
