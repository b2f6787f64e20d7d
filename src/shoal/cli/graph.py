"""`shoal graph`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from shoal.cli.options import file_option, shoal_command
from shoal.cli.output import emit, say
from shoal.model.app import App, Service

GATEWAY = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """Who sends requests to whom, or who starts after whom."""

    kind: str
    """`calls`, `after` or `route`."""
    source: str
    """A service; `gateway` for a route."""
    target: str
    label: str = ""
    """A route's host and path."""


@shoal_command(
    "graph",
    ("shoal graph", "who calls whom, as text"),
    ("shoal graph --format dot | dot -Tsvg > graph.svg", "as a picture, by Graphviz"),
    ("shoal graph --format mermaid", "for a page of Markdown"),
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "dot", "mermaid", "json"]),
    default="text",
    show_default=True,
    help="How it is drawn.",
)
@file_option()
def command(form: str, file: Path | None, as_json: bool) -> None:
    """Draw the call graph of the app file. Nothing is imported or started, and nothing needs to run."""
    from shoal.spec.find import nearest_app_file
    from shoal.spec.load import load_app

    app = load_app(nearest_app_file(Path.cwd()) if file is None else file, os.environ, platform.node())
    if as_json or form == "json":
        emit(as_data(app))
    else:
        say(*_DRAW[form](app))


def arrows(app: App) -> list[Arrow]:
    """Routes first, then the services' calls, then what waits for what."""
    routes = app.gateway.routes if app.gateway else ()
    return [
        *(Arrow(kind="route", source=GATEWAY, target=r.service, label=(r.host or "") + r.path) for r in routes),
        *(Arrow(kind="calls", source=s.name, target=callee) for s in app.services for callee in s.calls),
        *(Arrow(kind="after", source=s.name, target=other) for s in app.services for other in s.after),
    ]


def as_data(app: App) -> dict[str, object]:
    return {
        "app": app.name,
        "gateway": app.gateway.port if app.gateway else None,
        "services": [
            {"name": service.name, "port": service.port, "replicas": service.replicas}
            for service in app.services
            if service.job is None
        ],
        "jobs": [
            {"name": service.name, "schedule": service.job.schedule}
            for service in app.services
            if service.job is not None
        ],
        "edges": [
            {"kind": arrow.kind, "from": arrow.source, "to": arrow.target, "label": arrow.label}
            for arrow in arrows(app)
        ],
    }


def as_text(app: App) -> list[str]:
    lines = [app.name]
    found = arrows(app)
    if app.gateway is not None:
        lines.append(f"  {GATEWAY} :{app.gateway.port}")
        routes = [arrow for arrow in found if arrow.kind == "route"]
        width = max((len(arrow.label) for arrow in routes), default=0)
        lines += [f"    {arrow.label.ljust(width)} -> {arrow.target}" for arrow in routes]
    for service in app.services:
        own = [arrow for arrow in found if arrow.source == service.name and arrow.kind != "route"]
        lines.append(f"  {_label(service)}")
        lines += [f"    -> {arrow.target}" for arrow in own if arrow.kind == "calls"]
        lines += [f"    after {arrow.target}" for arrow in own if arrow.kind == "after"]
    return lines


def as_dot(app: App) -> list[str]:
    """Graphviz. A route and a service may be of one name: nodes of services begin with `s_`."""
    lines = [f"digraph {json.dumps(app.name)} {{", "  rankdir=LR", "  node [shape=box]"]
    if app.gateway is not None:
        lines.append(f"  gateway [shape=ellipse label={json.dumps(f'{GATEWAY} :{app.gateway.port}')}]")
    lines += [f"  {_id(s.name)} [label={json.dumps(_label(s))}]" for s in app.services]
    for arrow in arrows(app):
        style = {"route": f" [label={json.dumps(arrow.label)}]", "after": " [style=dashed label=after]"}
        source = "gateway" if arrow.kind == "route" else _id(arrow.source)
        lines.append(f"  {source} -> {_id(arrow.target)}{style.get(arrow.kind, '')}")
    return [*lines, "}"]


def as_mermaid(app: App) -> list[str]:
    lines = ["flowchart LR"]
    if app.gateway is not None:
        lines.append(f'  gateway(["{GATEWAY} :{app.gateway.port}"])')
    lines += [f'  {_id(service.name)}["{_label(service)}"]' for service in app.services]
    for arrow in arrows(app):
        line = {"route": f'-- "{arrow.label}" -->', "after": '-. "after" .->'}.get(arrow.kind, "-->")
        source = "gateway" if arrow.kind == "route" else _id(arrow.source)
        lines.append(f"  {source} {line} {_id(arrow.target)}")
    return lines


_DRAW: dict[str, Callable[[App], list[str]]] = {"text": as_text, "dot": as_dot, "mermaid": as_mermaid}


def _label(service: Service) -> str:
    """`users :3000 x3`, `mailer (worker)`, `report (job, @daily)`."""
    if service.job is not None:
        return f"{service.name} (job{', ' if service.job.schedule else ''}{service.job.schedule})"
    where = "(worker)" if service.port is None else f":{service.port}"
    return f"{service.name} {where}" + (f" x{service.replicas}" if service.replicas != 1 else "")


def _id(service: str) -> str:
    return "s_" + service.replace("-", "_")
