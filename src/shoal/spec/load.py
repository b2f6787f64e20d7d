"""The way in: an app file, or a single Python application, becomes an `App`.

Nothing here imports the user's code or starts a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic_core import PydanticCustomError

from shoal.errors import UsageError
from shoal.model.app import App, PythonApp, Service
from shoal.spec.check import build, label_from, name_flaw
from shoal.spec.compose import MAX_BYTES, parse
from shoal.spec.find import app_file
from shoal.spec.schema import check_run

DEFAULT_PORT = 8080


def load_app(path: Path, environ: Mapping[str, str], hostname: str) -> App:
    """Reads an app file (or `shoal.yaml` in a folder). `environ` gives `${NAME}`, `hostname` is the machine's.

    Raises SpecError with every problem of the file; UsageError when there is none, or it cannot be read.
    """
    file = app_file(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    return load_text(data, _shown(file), file.parent.resolve(), environ, hostname)


def load_text(data: bytes, name: str, folder: Path, environ: Mapping[str, str], hostname: str) -> App:
    """The same, of the file's bytes. `name` is how problems call the file; `folder` is absolute."""
    return build(parse(data, name), folder, environ, hostname)


def app_from_target(target: str, folder: Path, port: int | None = None, *, hostname: str = "") -> App:
    """An app of one service, named after the module: `shoal up hello:app` with no file. Raises UsageError.

    `port`: 1 to 65535; None is 8080, for an application must have one.
    """
    try:
        check_run(target)
    except PydanticCustomError as error:
        context = error.context or {}
        raise UsageError(f"'{target}' {context['message']}", way_out=str(context["way_out"])) from None
    folder = folder.resolve()
    module, _, attribute = target.partition(":")
    name = label_from(module.rpartition(".")[2], "web")
    service = Service(
        name="web" if name_flaw(name, hostname) else name,
        workload=PythonApp(module=module, attribute=attribute),
        folder=str(folder),
        port=DEFAULT_PORT if port is None else port,
        publish=True,
    )
    return App(name=label_from(folder.name, "app"), services=(service,), folder=str(folder))


def _shown(file: Path) -> str:
    """As short as it can be: relative when it is in the current folder or below."""
    try:
        return str(file.resolve().relative_to(Path.cwd()))
    except (OSError, ValueError):
        return str(file)
