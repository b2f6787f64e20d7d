"""Which services a changed file belongs to. Nothing here watches, and nothing is imported."""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path

from shoal.cli.imports import Imports
from shoal.model.app import App, Command, PythonApp, Service

FOLDERS_IGNORED = frozenset(
    {".shoal", ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".pytest_cache",
     ".ruff_cache", ".hypothesis", ".tox", ".idea", ".vscode", "dist", "build", "coverage", "site-packages"}
)  # fmt: skip
PYTHON = frozenset({".py", ".pyx", ".so"})
SCRIPT = frozenset({".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jsx", ".tsx"})
SOURCES = PYTHON | SCRIPT | frozenset(
    {".html", ".htm", ".jinja", ".jinja2", ".j2", ".mako", ".ejs", ".pug", ".hbs", ".go", ".rs", ".rb", ".php", ".java",
     ".kt", ".ex", ".exs", ".lua", ".pl", ".sh", ".graphql", ".proto", ".toml", ".ini", ".cfg", ".yaml", ".yml"}
)  # fmt: skip
"""A change of these is a change of the program. Not what services write themselves: logs, databases, JSON."""
NAMES = ("requirements*.txt", "uv.lock", "package.json", "package-lock.json", ".env", ".env.*", "Procfile")
TESTS = ("test_*.py", "*_test.py", "conftest.py", "*.test.js", "*.spec.js", "*.test.ts", "*.spec.ts")


def is_source(path: Path, root: Path) -> bool:
    """Whether a change of this file below `root` may matter. Editors' own files (`.x.swp`, `x~`, `4913`) do not."""
    try:
        inner = path.relative_to(root)
    except ValueError:
        return False
    if FOLDERS_IGNORED & set(inner.parts[:-1]) or any(part.endswith(".egg-info") for part in inner.parts):
        return False
    if any(fnmatch.fnmatch(path.name, pattern) for pattern in NAMES):
        return True
    return path.suffix in SOURCES and not path.name.startswith((".", "#"))


def folders(app: App) -> list[Path]:
    """What has to be watched: the folders of the app and of its services, none inside another."""
    found = sorted({Path(app.folder), *(Path(service.folder) for service in _watched(app))})
    return [path for path in found if not any(path != other and path.is_relative_to(other) for other in found)]


def affected(app: App, paths: Iterable[Path], imports: Imports) -> dict[str, list[Path]]:
    """Service -> the files of these that it is made of, in the app's order.

    A file that some services import, or name in their command, is theirs alone. Any other belongs to all services of
    the innermost folder around it: a template, a dynamic import, a program in a language that is not read here.
    """
    services = _watched(app)
    parts = {service.name: files_of(service, imports) for service in services}
    found: dict[str, list[Path]] = {}
    for path in paths:
        owners = [s for s in services if path in parts[s.name]]
        if not owners and not any(fnmatch.fnmatch(path.name, pattern) for pattern in TESTS):
            owners = _around(services, path)
        for owner in owners:
            found.setdefault(owner.name, []).append(path)
    return {service.name: found[service.name] for service in services if service.name in found}


def files_of(service: Service, imports: Imports) -> set[Path]:
    """The files that it is known to be made of: Python's by their imports, others by name in the command."""
    folder = Path(service.folder)
    match service.workload:
        case PythonApp():
            return imports.of_module(folder, service.workload.module)
        case Command():
            named = {folder / word for word in _words(service.workload) if word and not word.startswith("-")}
            found = {path for path in named if path.is_file()}
            for path in list(found):
                if path.suffix == ".py":
                    found |= imports.of_file(path)
            return found
    return set()


def _around(services: Collection[Service], path: Path) -> list[Service]:
    """Those of the innermost folder; of them those in whose language the file is written, if it tells."""
    around = [s for s in services if path.is_relative_to(s.folder)]
    depth = max((len(Path(s.folder).parts) for s in around), default=0)
    inner = [s for s in around if len(Path(s.folder).parts) == depth]
    if path.suffix in PYTHON:
        return [s for s in inner if _is_python(s)] or inner
    if path.suffix in SCRIPT:
        return [s for s in inner if not _is_python(s)] or inner
    return inner


def _watched(app: App) -> list[Service]:
    return [service for service in app.services if isinstance(service.workload, PythonApp | Command)]


def _is_python(service: Service) -> bool:
    if isinstance(service.workload, Command):
        return any("python" in word or word.endswith(".py") for word in _words(service.workload))
    return isinstance(service.workload, PythonApp)


def _words(command: Command) -> list[str]:
    words: list[str] = []
    for part in command.argv:
        try:
            words += shlex.split(part)
        except ValueError:
            words.append(part)
    return words
