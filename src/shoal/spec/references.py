"""`${...}` in an app file: what is filled in now, and what is kept for the start of a replica.

| written | stands for | filled in |
|---|---|---|
| `${NAME}`, `${NAME:-default}` | a variable of whoever runs `shoal up`; the default also where it is empty | now |
| `${port}`, `${PORT}`, `$PORT` | the port that this replica should listen on | at its start |
| `${port.admin}` | the same for its further port `admin` | at its start |
| `${<service>.url}`, `.host`, `.port`, `.address` | a service in `calls` | at its start |
| `${<service>.admin.url}` and so on | its port of that name | at its start |
| `${secret.NAME}` | a secret, in a variable or a file's content | at its start |
| `$$` | a `$` | now |

Any other `$` is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from shoal.model import secrets
from shoal.spec.problems import did_you_mean, quoted

PARTS = ("url", "host", "port", "address")
_TOKEN = re.compile(r"\$\$|\$PORT(?![A-Za-z0-9_])|\$\{([^}]*)(\}?)")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)
_SERVICE_PART = re.compile(r"([^.\s:]+)\.(?:([^.\s:]+)\.)?([^.\s:]*)\Z")
_KEPT = re.compile(
    rf"\$PORT(?![A-Za-z0-9_])|\$\{{(?:port|PORT|[a-z0-9-]+(?:\.[a-z0-9-]+){{1,2}}|secret\.{secrets.NAME})\}}"
)
"""What the start of a replica fills in."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a text, and where: `offset` characters into it."""

    offset: int
    message: str
    way_out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a service's texts may refer to."""

    services: Collection[str]
    calls: Collection[str]
    has_port: bool
    environ: Mapping[str, str]
    ports: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The names of ports, by service."""
    own: str = ""
    """The service itself."""


def fill(text: str, scope: Scope) -> tuple[str, list[Flaw]]:
    """Of a variable or an argument: fills in what is known now."""
    flaws: list[Flaw] = []

    def replace(match: re.Match[str]) -> str:
        token, offset = match.group(0), match.start()
        if token == "$$":
            if _KEPT.match(text, match.end() - 1):
                flaws.append(Flaw(offset, "a literal $PORT, ${port} or ${service.part} cannot be written"))
            return "$"
        if token == "$PORT":
            return _port(scope, offset, flaws) if scope.has_port else token
        return _filled(match, scope, flaws)

    return _TOKEN.sub(replace, text), flaws


def is_kept(text: str) -> bool:
    """Whether the start of a replica would fill something in."""
    return _KEPT.search(text) is not None


def check_script(text: str, scope: Scope) -> list[Flaw]:
    """Of a shell's command line, where `$` belongs to the shell and only what it cannot mean is ours."""
    flaws: list[Flaw] = []
    for match in re.finditer(r"\$\{([^}\s:]*)\}", text):
        inner = match.group(1)
        if inner == "port":
            _port(scope, match.start(), flaws)
        elif part := _SERVICE_PART.match(inner):
            _service(part, scope, match.start(), flaws)
    return flaws


def _filled(match: re.Match[str], scope: Scope, flaws: list[Flaw]) -> str:
    token, inner, offset = match.group(0), match.group(1), match.start()
    if not match.group(2):
        flaws.append(Flaw(offset, "'${' without '}'", "write $${ for a literal one"))
    elif "${" in inner:
        flaws.append(Flaw(offset, "references cannot be nested"))
    elif inner in ("port", "PORT"):
        return _port(scope, offset, flaws)
    elif part := _SERVICE_PART.match(inner):
        _service(part, scope, offset, flaws)
    elif not (variable := _VARIABLE.match(inner)):
        flaws.append(
            Flaw(offset, f"{quoted(token)} is no reference", "write ${NAME}, ${NAME:-default} or ${service.url}")
        )
    else:
        name, default = variable.groups()
        value = scope.environ.get(name)
        if value is None and default is None:
            flaws.append(Flaw(offset, f"the variable {name} is not set", f"set it, or write ${{{name}:-default}}"))
        elif value is not None and not _is_text(value):
            flaws.append(Flaw(offset, f"the value of the variable {name} is not UTF-8 text"))
        else:
            return (value or default or "") if default is not None else (value or "")
    return token


def _port(scope: Scope, offset: int, flaws: list[Flaw]) -> str:
    if not scope.has_port:
        flaws.append(Flaw(offset, "refers to the port, and the service has none", "add 'port'"))
    return "${port}"


def _service(part: re.Match[str], scope: Scope, offset: int, flaws: list[Flaw]) -> None:
    name, port, word = part.groups()
    if name == "secret" and port is None and (word.isupper() or name not in scope.services):
        if not secrets.is_name(word):
            hint = word.upper().replace("-", "_")
            flaws.append(Flaw(offset, f"{quoted(word)} is no secret's name", f"write ${{secret.{hint}}}"))
        return
    own_ports = scope.ports.get(scope.own, ())
    if name == "port" and port is None and (word in own_ports or (word not in PARTS and own_ports)):
        if word not in own_ports:
            hint = did_you_mean(word, list(own_ports), otherwise=f"it has {', '.join(own_ports)}")
            flaws.append(Flaw(offset, f"the service has no port {quoted(word)}", hint))
        return
    if port is not None and name in scope.services and port not in scope.ports.get(name, ()):
        hint = did_you_mean(port, list(scope.ports.get(name, ())), otherwise="give it a name in 'ports'")
        flaws.append(Flaw(offset, f"'{name}' has no port {quoted(port)}", hint))
    if word not in PARTS:
        known = ", ".join(PARTS)
        flaws.append(
            Flaw(offset, f"a service has no {quoted(word)}", did_you_mean(word, PARTS, otherwise=f"it has {known}"))
        )
    if name not in scope.services:
        flaws.append(Flaw(offset, f"there is no service {quoted(name)}", did_you_mean(name, list(scope.services))))
    elif name not in scope.calls:
        flaws.append(Flaw(offset, f"'{name}' is not in 'calls'", f"add it: calls: [{', '.join([*scope.calls, name])}]"))


def _is_text(value: str) -> bool:
    """Bytes that are no UTF-8 arrive from the environment as half surrogate pairs."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
