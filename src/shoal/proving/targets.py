"""What to ask an app while it is disturbed: GETs that it answers well when nothing happens."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from shoal.errors import UsageError
from shoal.model.status import AppStatus

PATHS_MAX = 20
"""Of one service's OpenAPI document; the first ones."""
BODY_MAX = 4 << 20
ASK_S_MAX = 5.0
OPENAPI = "/openapi.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One GET."""

    service: str
    """Who answers it: a service, `gateway`, or the host of a given URL."""
    path: str
    host: str
    """The Host header."""
    address: tuple[str, int] | str
    """Host and port, or the path of Envoy's Unix socket."""

    def __str__(self) -> str:
        return f"GET {self.path} of {self.service}"


class Connection(http.client.HTTPConnection):
    """To a target's address, also over a Unix socket."""

    def __init__(self, address: tuple[str, int] | str, *, timeout_s: float) -> None:
        host, port = ("localhost", 80) if isinstance(address, str) else address
        super().__init__(host, port, timeout=timeout_s)
        self._path = address if isinstance(address, str) else None

    def connect(self) -> None:
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def given(urls: Iterable[str]) -> list[Target]:
    """Raises UsageError for what is no plain http URL of this machine: load goes nowhere else."""
    found = []
    for url in urls:
        parts = urlsplit(url)
        host = parts.hostname or ""
        local = host in ("localhost", "127.0.0.1", "::1") or host.endswith(".localhost")
        if parts.scheme != "http" or not local:
            raise UsageError(f"'{url}' is no http URL of this machine", way_out="write it like http://localhost:8080/")
        address = (host if host in ("127.0.0.1", "::1") else "127.0.0.1", parts.port or 80)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        found.append(Target(service=host, path=path, host=parts.netloc, address=address))
    return found


def discovered(status: AppStatus, mesh_socket: str) -> list[Target]:
    """GETs of each HTTP service: what its OpenAPI document lists without parameters, else `/`; and the gateway's paths.

    A service that is published is asked there; another over Envoy's socket, as `shoal call` does.
    """
    found = []
    for service in status.services:
        if service.port is None or service.protocol != "http" or service.wanted == 0:
            continue
        address = _published(service.address) or mesh_socket
        host = service.name if isinstance(address, str) else f"localhost:{address[1]}"
        asked = Target(service=service.name, path=OPENAPI, host=host, address=address)
        paths = paths_of(_document(asked))[:PATHS_MAX] or ["/"]
        found += [replace(asked, path=path) for path in paths]
    if status.gateway is not None:
        address = ("127.0.0.1", status.gateway.port)
        for route in status.gateway.routes:
            host = route.host or f"localhost:{status.gateway.port}"
            found.append(Target(service="gateway", path=route.path, host=host, address=address))
    return found


def paths_of(document: Mapping[str, object]) -> list[str]:
    """Of an OpenAPI document: the paths with a GET that needs nothing of the caller, in its order."""
    paths = document.get("paths")
    found = []
    for path, item in paths.items() if isinstance(paths, dict) else ():
        operation = item.get("get") if isinstance(item, dict) else None
        if not isinstance(operation, dict) or "{" in path or operation.get("security"):
            continue
        parameters = [*item.get("parameters", []), *operation.get("parameters", [])]
        if not any(isinstance(each, dict) and each.get("required") for each in parameters):
            found.append(path)
    return found


def sound(targets: Iterable[Target]) -> tuple[list[Target], list[str]]:
    """Those that answer below 400 now, and a line for each that does not: it cannot show what a disturbance costs."""
    good, left_out = [], []
    for target in targets:
        try:
            status = _get(target)[0]
        except (OSError, http.client.HTTPException) as error:
            left_out.append(f"{target}: {error or type(error).__name__}")
            continue
        if status < 400:
            good.append(target)
        else:
            left_out.append(f"{target}: it answers {status} before anything happens")
    return good, left_out


def _published(address: str | None) -> tuple[str, int] | None:
    parts = urlsplit(address) if address else None
    return ("127.0.0.1", parts.port) if parts is not None and parts.port else None


def _document(target: Target) -> Mapping[str, object]:
    """Empty where there is none."""
    try:
        status, body = _get(target)
        document = json.loads(body) if status == 200 else {}
    except (OSError, ValueError, RecursionError, http.client.HTTPException):
        return {}
    return document if isinstance(document, dict) else {}


def _get(target: Target) -> tuple[int, bytes]:
    connection = Connection(target.address, timeout_s=ASK_S_MAX)
    try:
        connection.request("GET", target.path, headers={"Host": target.host})
        answer = connection.getresponse()
        return answer.status, answer.read(BODY_MAX)
    finally:
        connection.close()
