"""`shoal init`: a small app of one service, that runs at once."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from shoal.cli.options import shoal_command
from shoal.cli.output import emit, say
from shoal.errors import ConflictError, UsageError
from shoal.spec.find import FILE_NAME

TEMPLATES: dict[str, str] = {
    "fastapi": "Python, ASGI",
    "flask": "Python, WSGI",
    "django": "Python, WSGI, a project without a database",
    "express": "Node",
    "grpc": "Python, gRPC",
}
"""Name -> what it is. The files are beside this module; `.tmpl` keeps tools from taking them for Shoal's own."""
FOLDER = Path(__file__).parent / "templates"
DEFAULT, PORT = "fastapi", 8080
_RENAMED = {"gitignore": ".gitignore"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    folder: str
    app: str
    template: str
    port: int
    files: tuple[str, ...]


@shoal_command(
    "init",
    ("shoal init shop --template flask", "a Flask app in the new folder shop"),
    ("shoal init --template express --name web --port 3000", "in this folder"),
)
@click.argument("folder", required=False, default=".", type=click.Path(path_type=Path, file_okay=False))
@click.option("--template", type=click.Choice(list(TEMPLATES)), help=f"Default: {DEFAULT}.")
@click.option("--name", metavar="NAME", help="Of the app and its service. Default: the folder's.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, metavar="PORT", help="Its port."
)
def command(folder: Path, template: str | None, name: str | None, port: int, as_json: bool) -> None:
    """Make a new app in FOLDER from a template: the code, its packages, shoal.yaml, a test.

    On a terminal it asks for the template and the name where they are not given; elsewhere it asks nothing. It never
    overwrites a file: when one is there, nothing is written.
    """
    asks = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    proposed = _label(folder.resolve().name)
    if template is None:
        template = _ask_template() if asks else DEFAULT
        if name is None and asks:
            name = click.prompt("name of the service", default=proposed)
    made = make(folder, template, proposed if name is None else name, port)
    if as_json:
        emit(made)
        return
    where = "" if folder == Path() else f"cd {folder} && "
    say(*(f"  {name}" for name in made.files), f"{made.app} is made; run it: {where}shoal up")


def make(folder: Path, template: str, name: str, port: int) -> Made:
    """Raises UsageError when the name cannot be one, ConflictError when a file is there; then nothing is written."""
    from shoal.spec.check import name_flaw

    if flaw := name_flaw(name, platform.node()):
        raise UsageError(f"'{name}' cannot be a service's name: {flaw[0]}", way_out=flaw[1] or "name it by --name")
    texts = _files(template, name, port)
    taken = [path for path in texts if os.path.lexists(folder / path)]
    if taken:
        raise ConflictError(
            f"{folder / taken[0]} is there already" + (f", and {len(taken) - 1} more" if len(taken) > 1 else ""),
            way_out="name another folder: shoal init FOLDER",
        )
    for path, text in texts.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as stream:
            stream.write(text)
    return Made(folder=str(folder.resolve()), app=name, template=template, port=port, files=tuple(texts))


def _files(template: str, name: str, port: int) -> dict[str, str]:
    """Path -> text; the app file last, so that a half-made folder is no app."""
    root = FOLDER / template
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*.tmpl"), key=lambda path: (path.name.startswith(FILE_NAME), str(path))):
        inner = path.relative_to(root).with_suffix("")
        inner = inner.with_name(_RENAMED.get(inner.name, inner.name))
        found[str(inner)] = path.read_text("utf-8").replace("@NAME@", name).replace("@PORT@", str(port))
    return found


def _ask_template() -> str:
    for name, what in TEMPLATES.items():
        say(f"  {name.ljust(8)} {what}")
    answer: str = click.prompt("template", type=click.Choice(list(TEMPLATES)), default=DEFAULT, show_choices=False)
    return answer


def _label(text: str) -> str:
    """A service's name from a folder's."""
    found = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
    return found or "web"
