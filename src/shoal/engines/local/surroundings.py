"""What a process finds: its environment variables and its command line, all references filled in. Pure."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from shoal.engines.local import preload
from shoal.engines.local.environments import Environment
from shoal.engines.local.overlays import RUNNER
from shoal.errors import EngineError
from shoal.model import secrets
from shoal.model.app import App, Command, External, PythonApp, Service
from shoal.model.resources import Resource
from shoal.model.surroundings import Static
from shoal.model.topology import EdgeMap
from shoal.planner.egress import proxy_variables
from shoal.planner.environment import fill_in, injected, port_variable, references

SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"\$(?:PORT\b|\{PORT\})")
_DROPPED = frozenset({"PORT", "GRPC_ENABLE_FORK_SUPPORT", "__PYVENV_LAUNCHER__"})
_DROPPED_PREFIXES = ("SHOAL_", "PYTHON", "VIRTUAL_ENV", "UV_", "PIP_")  # the last two may hold an index's password


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one replica runs, as far as its variables and its command depend on it."""

    replica: str
    data_dir: Path
    environment: Environment | None
    """None: nothing of Python is known about the service."""
    named: bool
    """It has a private hosts file."""
    port: int | None = None
    """Where a command should listen."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """Where it should listen for its further ports, by their names."""
    socket: Path | None = None
    """Where an ASGI or WSGI application listens."""
    overlay: Path | None = None
    sdk: Path | None = None
    """A folder of packages that its Python finds after its own: `shoal.sdk`."""
    given: Mapping[str, str] = field(default_factory=dict)
    """Where its data is, and whatever else is known at its start alone; the user's own variables win over it."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Values, by their names."""
    tools: tuple[Path, ...] = ()
    """Folders of programs that go before those of the machine: the Python or Node that the service asks for."""


def base_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Of the daemon's variables those that are not about the daemon: no trace of its own Python environment."""
    base = {key: value for key, value in own.items() if key not in _DROPPED and not key.startswith(_DROPPED_PREFIXES)}
    venv = own.get("VIRTUAL_ENV")
    if venv and "PATH" in base:
        left = [part for part in base["PATH"].split(os.pathsep) if Path(part) != Path(venv, "bin")]
        base["PATH"] = os.pathsep.join(left)
    # Else Python keeps the last lines of a program that crashes to itself, and logs arrive in blocks of 8 kB.
    base["PYTHONUNBUFFERED"] = "1"
    return base


def environment(base: Mapping[str, str], app: App, service: Service, edges: EdgeMap, place: Place) -> dict[str, str]:
    """All variables of a replica. What the user set wins over everything."""
    env = dict(base)
    if place.tools:
        env["PATH"] = os.pathsep.join([*map(str, place.tools), env.get("PATH", os.defpath)])
    if place.environment is not None and place.environment.folder is not None:
        env["VIRTUAL_ENV"] = str(place.environment.folder)
        env["PATH"] = os.pathsep.join([str(place.environment.folder / "bin"), env.get("PATH", os.defpath)])
    env |= injected(app, service, edges, named=place.named, replica=place.replica, data_dir=str(place.data_dir))
    env |= place.given
    env |= proxy_variables(app, service, edges, dict(service.env))
    if place.port is not None:
        env["PORT"] = str(place.port)
    env |= {port_variable(name): str(number) for name, number in place.ports.items()}
    values = references(app, service, edges, named=place.named)
    for key, value in service.env:
        text = _with_port(fill_in(value, values, port=place.port, ports=place.ports), place.port)
        env[key] = secrets.fill(text, place.secrets)
    if place.sdk is not None and place.environment is not None:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (env.get("PYTHONPATH"), str(place.sdk))))
    return env | _moves(service, place, env)


def _moves(service: Service, place: Place, env: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(service.workload, Command) or service.port is None or place.port is None:
        return {}
    further = {port.number: place.ports[port.name] for port in service.ports if port.name in place.ports}
    return preload.variables(env, {service.port: place.port, **further})


def argv(app: App, service: Service, edges: EdgeMap, place: Place) -> list[str]:
    """The command line of a replica."""
    workload = service.workload
    match workload:
        case PythonApp():
            assert place.environment is not None and place.socket is not None
            # -u: a print shows up in the log when it happens.
            line = [str(place.environment.python), "-u", str(RUNNER / "__main__.py"), service.name, workload.target]
            line += ["--folder", service.folder, "--socket", str(place.socket)]
            return [*line, "--overlay", str(place.overlay)] if place.overlay is not None else line
        case Command():
            return filled(app, service, workload.argv, edges, place)
        case Static():
            assert place.socket is not None
            folder = str(Path(service.folder, workload.folder))
            line = [sys.executable, "-I", "-u", "-m", "shoal.engines.local.site", folder, "--socket", str(place.socket)]
            return [*line, "--spa"] if workload.spa else line
        case Resource():
            raise AssertionError("a resource is started by engines.local.resources")
        case External():
            raise EngineError(f"{service.name} is outside; Shoal does not run it")
        case _:
            assert_never(workload)


def filled_text(text: str, app: App, service: Service, edges: EdgeMap, place: Place) -> str:
    """A variable or a file of a replica, with all references filled in."""
    values = references(app, service, edges, named=place.named)
    text = _with_port(fill_in(text, values, port=place.port, ports=place.ports), place.port)
    return secrets.fill(text, place.secrets)


def filled(app: App, service: Service, argv: Sequence[str], edges: EdgeMap, place: Place) -> list[str]:
    """A command line of a replica, its own or its health command, with all references filled in."""
    values = references(app, service, edges, named=place.named)
    line = [fill_in(part, values, port=place.port, ports=place.ports) for part in argv]
    # In a shell's command `$PORT` is for the shell, quotes and all.
    return line if tuple(argv[:2]) == SHELL else [_with_port(part, place.port) for part in line]


def _with_port(text: str, port: int | None) -> str:
    return text if port is None else _PORT.sub(str(port), text)
