"""`shoal routes`."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shoal.cli.options import connect, file_option, shoal_command, state_folder
from shoal.cli.output import emit, note, say, table
from shoal.cli.views import published
from shoal.model.app import App, Protocol
from shoal.model.status import AppStatus, Explanation

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRoute:
    route: str
    """Host and path."""
    service: str
    address: str
    """`http://localhost:8080/users`"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    service: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeRoute:
    """A declared call: what the caller says, and the loopback address that it means."""

    caller: str
    callee: str
    address: str | None
    """None: nothing runs, and the address is leased at the first start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Every way in, and every way between the services."""

    app: str
    running: bool
    gateway: tuple[GatewayRoute, ...]
    published: tuple[Published, ...]
    edges: tuple[EdgeRoute, ...]


@shoal_command(
    "routes",
    ("shoal routes", "every address, and who answers there"),
    ("shoal routes --json", "the same, for machines"),
)
@file_option()
def command(file: Path | None, as_json: bool) -> None:
    """Show where everything is reached: the gateway's routes, published ports, and the edges between services.

    Of what runs, if it runs; else of the app file.
    """
    ways = _ways(file)
    if as_json:
        emit(ways)
        return
    if not ways.running:
        note(f"{ways.app} does not run; this is what its file says")
    say(*view(ways))


def _ways(file: Path | None) -> Ways:
    from shoal.client.plane import plane_runs

    if plane_runs(state_folder(file)):
        client = connect(file)
        status = client.status()
        if status.generation:
            return of_plane(status, [client.explain(service.name) for service in status.services])
    from shoal.spec.find import nearest_app_file
    from shoal.spec.load import load_app

    return of_file(load_app(nearest_app_file(Path.cwd()) if file is None else file, os.environ, platform.node()))


def of_plane(status: AppStatus, explanations: Sequence[Explanation]) -> Ways:
    gateway = status.gateway
    return Ways(
        app=status.app,
        running=True,
        gateway=tuple(_gateway_route(gateway.port, route.host, route.path, route.service) for route in gateway.routes)
        if gateway
        else (),
        published=tuple(
            Published(service=name, address=where) for s in status.services for name, where in published(s)
        ),
        edges=tuple(
            EdgeRoute(caller=explanation.service.name, callee=callee, address=address)
            for explanation in explanations
            for callee, address in explanation.reaches.items()
        ),
    )


def of_file(app: App) -> Ways:
    gateway = app.gateway
    return Ways(
        app=app.name,
        running=False,
        gateway=tuple(_gateway_route(gateway.port, r.host, r.path, r.service) for r in gateway.routes)
        if gateway
        else (),
        published=tuple(
            Published(
                service=_named(s.name, port.name, main=port.number == s.port),
                address=("http://" if port.protocol is Protocol.HTTP else "") + f"localhost:{port.number}",
            )
            for s in app.services
            for port in s.every_port
            if port.publish
        ),
        edges=tuple(
            EdgeRoute(caller=service.name, callee=_named(callee, port.name, main=index == 0), address=None)
            for service in app.services
            for callee in service.calls
            for index, port in enumerate(app.service(callee).every_port)
        ),
    )


def _named(service: str, port: str, *, main: bool) -> str:
    """`users`, and `users:grpc` for its further port `grpc`."""
    return service if main else f"{service}:{port}"


def _gateway_route(port: int, host: str | None, path: str, service: str) -> GatewayRoute:
    return GatewayRoute(
        route=(host or "") + path, service=service, address=f"http://{host or 'localhost'}:{port}{path}"
    )


def view(ways: Ways) -> list[str]:
    """The three tables, those that are not empty."""
    blocks: list[list[str]] = []
    if ways.gateway:
        rows = [(route.route, route.service, route.address) for route in ways.gateway]
        blocks.append(table(("GATEWAY", "SERVICE", "ADDRESS"), rows))
    if ways.published:
        blocks.append(table(("PUBLISHED", "ADDRESS"), [(found.service, found.address) for found in ways.published]))
    if ways.edges:
        edges = [(edge.caller, edge.callee, edge.address or "given at the first start") for edge in ways.edges]
        blocks.append(table(("CALLER", "CALLEE", "EDGE"), edges))
    lines = [line for block in blocks for line in ["", *block]][1:]
    return lines or [f"{ways.app} has no way in: no published port, no gateway, no calls"]
