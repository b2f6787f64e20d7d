"""The Pythons and Nodes of this machine, and which of them a service asks for. Nothing is fetched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shoal.engines.local import versions
from shoal.errors import EngineError

ASK_S_MAX = 10.0
_PYTHON = r"python3(\.[0-9]+)?"
_PLACES = {
    "Python": (".pyenv/versions/*/bin/python3", ".local/share/uv/python/*/bin/python3",
               ".asdf/installs/python/*/bin/python3", ".local/share/mise/installs/python/*/bin/python3"),
    "Node": (".nvm/versions/node/*/bin/node", ".local/share/fnm/node-versions/*/installation/bin/node",
             ".volta/tools/image/node/*/bin/node", ".nodenv/versions/*/bin/node", ".asdf/installs/nodejs/*/bin/node",
             ".local/share/mise/installs/node/*/bin/node"),
}  # fmt: skip
"""Where people keep several, below their home."""
_MORE = ("/usr/local/bin", "/usr/bin", "/opt/homebrew/bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a service asks for, and where it says so."""

    text: str
    source: str
    """`python` of the app file, or a path."""
    is_range: bool = False

    def takes(self, version: str) -> bool:
        return versions.satisfies(version, self.text) if self.is_range else versions.begins(version, self.text)


def find(kind: str, wanted: Wanted, service: str) -> Path:
    """`kind`: Python or Node. The first that suits; Shoal's own Python before all others. Runs those that may: 50 ms
    each. EngineError: none does, with those that are there."""
    for path in candidates(kind):
        if wanted.takes(_hint(path) or version_of(str(path))) and wanted.takes(version_of(str(path))):
            return path
    there = sorted({version_of(str(path)) for path in candidates(kind)} - {""}, key=versions.numbers)
    have = f"this machine has {', '.join(there)}" if there else "this machine has none"
    how = "install it (Shoal fetches none)" if wanted.is_range else f"install {kind} {wanted.text} (Shoal fetches none)"
    raise EngineError(
        f"service {service!r} wants {kind} {wanted.text} ({wanted.source}), and {have}",
        way_out=f"{how}, or ask for one that is there",
    )


def candidates(kind: str) -> Iterator[Path]:
    """Each once, those of the PATH first; of a version manager's the newest first."""
    seen: set[str] = set()
    found: list[Path] = [Path(sys.executable)] if kind == "Python" else []
    pattern = _PYTHON if kind == "Python" else "node"
    for folder in [*os.environ.get("PATH", os.defpath).split(os.pathsep), *_MORE]:
        try:
            names = [path.name for path in Path(folder).iterdir() if re.fullmatch(pattern, path.name)]
        except OSError:
            continue
        # pyenv's and asdf's shims are scripts that choose by the folder one is in.
        found += [Path(folder, name) for name in sorted(names, key=len) if "/shims" not in folder]
    home = Path(os.environ.get("HOME", "/nonexistent"))
    for place in _PLACES[kind]:
        found += sorted(home.glob(place), key=lambda path: versions.numbers(_hint(path)), reverse=True)
    for path in found:
        real = os.path.realpath(path)
        if real not in seen and os.access(path, os.X_OK):
            seen.add(real)
            yield path


def _hint(path: Path) -> str:
    """The version that a manager's folder is named after. Empty: it must be asked."""
    for part in path.parts[-5:-2]:
        if found := re.search(r"(?:^|-|v)([0-9]+\.[0-9]+\.[0-9]+)(?:-|$)", part):
            return found[1]
    return ""


def version_of(path: str) -> str:
    """`3.12.1`; empty: it does not run."""
    try:
        return _asked(path, os.stat(path).st_mtime_ns)  # noqa: PTH116
    except OSError:
        return ""


@lru_cache(maxsize=256)
def _asked(path: str, _changed: int) -> str:
    if os.path.realpath(path) == os.path.realpath(sys.executable):
        return ".".join(map(str, sys.version_info[:3]))
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=ASK_S_MAX, check=False,
            stdin=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"([0-9]+\.[0-9]+\.[0-9]+)", done.stdout + done.stderr)
    return found[1] if found and done.returncode == 0 else ""


def python_of(folder: Path, folders: list[Path]) -> Wanted | None:
    """What is written beside a service's requirements: `.python-version` of the nearest of `folders`, else
    `requires-python` of `folder`."""
    for place in folders:
        text = _first_line(place / ".python-version").removeprefix("cpython-").removeprefix("python-")
        if re.fullmatch(r"3(\.[0-9]+){1,2}", text):
            # Which patch it was on another machine is no reason to refuse.
            return Wanted(text=".".join(text.split(".")[:2]), source=str(place / ".python-version"))
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8")).get("project", {})
    except (OSError, ValueError):
        return None
    allowed = project.get("requires-python") if isinstance(project, dict) else None
    if not isinstance(allowed, str):
        return None
    return Wanted(text=allowed, source=str(folder / "pyproject.toml"), is_range=True)


def node_of(folders: list[Path]) -> Wanted | None:
    """`.nvmrc` or `.node-version` of the nearest of `folders`, else `engines` of the nearest package.json."""
    for place in folders:
        for name in (".nvmrc", ".node-version"):
            text = _first_line(place / name)
            if re.fullmatch(r"v?[0-9]+(\.[0-9]+){0,2}", text):
                return Wanted(text=text.removeprefix("v"), source=str(place / name))
    for place in folders:
        try:
            engines = json.loads((place / "package.json").read_text("utf-8")).get("engines", {})
        except (OSError, ValueError, AttributeError):
            continue
        allowed = engines.get("node") if isinstance(engines, dict) else None
        if not isinstance(allowed, str):
            return None
        return Wanted(text=allowed, source=str(place / "package.json"), is_range=True)
    return None


def pins(folders: list[Path]) -> list[Path]:
    """The files that say so, beside package.json and pyproject.toml: the nearest for Python, and for Node."""
    kinds = ((".python-version",), (".nvmrc", ".node-version"))
    near = ((place / name for place in folders for name in names) for names in kinds)
    return [pin for paths in near if (pin := next((path for path in paths if path.is_file()), None)) is not None]


def _first_line(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").partition("\n")[0].strip()
    except OSError:
        return ""
