"""The variables of a service: those of the Dockerfile, of the env files and of the compose file, as they fit here."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shoal.spec.importing.facts import Facts, relative_path
from shoal.spec.importing.keys import valid
from shoal.spec.importing.notation import mapping, texts
from shoal.spec.importing.reading import Folder, parse_env, read_text
from shoal.spec.importing.variables import LENGTH_MAX, Variables, literal

_NOISE = re.compile(
    r"(?:PYTHON(?!PATH)\w*|PIP_\w*|UV_\w*|POETRY_\w*|DEBIAN_FRONTEND|PATH|HOME|LANG|LC_ALL|TZ|VIRTUAL_ENV|TERM|GOPATH"
    r"|GOROOT|CGO_ENABLED|GOOS|GOARCH|NPM_CONFIG_\w*|npm_config_\w*|YARN_\w*|PNPM_HOME|\w*_VERSION|NODE_OPTIONS|SHELL)\Z"
)
"""Variables of a Dockerfile that are about the image."""
_OWN_PORT = re.compile(
    r"(?:(?:APP|SERVER|HTTP|LISTEN|LISTENING|SERVICE|WEB|API|UVICORN|FLASK_RUN|FLASK|GUNICORN|NUXT|NITRO|VITE|RAILS|PUMA"
    r"|STREAMLIT_SERVER|GRADIO_SERVER|ASPNETCORE_HTTP|KC_HTTP|NODE|EXPRESS|DJANGO|GIN|FASTAPI)_PORTS?)\Z"
)
_OWN_ADDRESS = re.compile(
    r"(?:\w*_)?(?:BIND|BIND_ADDR|BIND_ADDRESS|LISTEN|LISTEN_ADDR|LISTEN_ADDRESS|HTTP_ADDR|SERVER_ADDR)\Z|ADDR\Z"
    r"|ASPNETCORE_URLS\Z|GUNICORN_CMD_ARGS\Z"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,199}\Z")


@dataclass(slots=True)
class Environment:
    env: dict[str, str] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    """Env files that stay files, relative to the app file's folder."""
    values: dict[str, str] = field(default_factory=dict)
    """All of them, those of the files too."""


def environment(
    facts: Facts,
    variables: Variables,
    folder: Folder,
    app_folder: Path,
    renamed: Callable[[str, str], str],
) -> Environment:
    """`renamed(value, name)`: with the hosts changed that are called otherwise here."""
    out = Environment()
    gathered: dict[str, str] = {}
    if facts.stage is not None:
        gathered |= {name: literal(value) for name, value in facts.stage.env.items() if not _NOISE.match(name)}
    from_files = _env_files(facts, variables, folder, app_folder, out)
    gathered |= from_files
    for name, value in mapping(facts.parts.get("environment")).items():
        gathered[name] = variables.passed_on(name) if value is None else variables.later(value)
    for name, value in gathered.items():
        if not _NAME.match(name):
            facts.lose("environment", name, "this is no name of a variable")
            continue
        if len(value) > LENGTH_MAX:
            facts.lose("environment", name, f"its value is longer than {LENGTH_MAX:,} characters", "put it in a file")
            continue
        fitting = _fitting(name, value, facts, out, folder, renamed)
        if out.files and name in from_files and fitting is None and name == "PORT":
            fitting = "${port}"  # the file would win over Shoal
        out.values[name] = value if fitting is None else fitting
        if fitting is None or (out.files and fitting == value and from_files.get(name) == value):
            continue
        out.env[name] = fitting
    return out


def _env_files(
    facts: Facts, variables: Variables, folder: Folder, app_folder: Path, out: Environment
) -> dict[str, str]:
    found: dict[str, str] = {}
    for path, required in _paths(facts.parts.get("env_file"), variables):
        # These files may be elsewhere: the compose file names them for their content.
        text = folder.text(path) if folder.find(path) is not None else _elsewhere(folder, path)
        if text is None:
            if required:
                facts.lose("env_file", path, "there is no such file", "write it, and import again")
            continue
        # As seen from the app file; what Shoal would not read as it is goes into `env`.
        place = os.path.relpath(folder.root / path, app_folder)
        if valid({"command": "x", "env_file": [place]}, app_folder):
            out.files.append(place)
            found |= {name: literal(value) for name, value in parse_env(text, variables.known).items()}
        else:
            values = parse_env(text, variables.known)
            found |= {name: variables.own(name, value, path) for name, value in values.items()}
            facts.notes.append(f"the variables of {path} are in `env`")
    return found


def _paths(value: Any, variables: Variables) -> list[tuple[str, bool]]:
    found = [(variables.now(text), True) for text in texts(value)]
    items = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]
    return found + [
        (variables.now(item["path"]), str(item.get("required")).lower() != "false")
        for item in items
        if isinstance(item.get("path"), str)
    ]


def _elsewhere(folder: Folder, path: str) -> str | None:
    try:
        return read_text((folder.root / path).resolve())
    except (OSError, ValueError, RuntimeError):
        return None


def _fitting(
    name: str,
    value: str,
    facts: Facts,
    out: Environment,
    folder: Folder,
    renamed: Callable[[str, str], str],
) -> str | None:
    """The value as it fits here; None: it is better left out."""
    port = facts.port
    now = _default_of(value)
    if port is not None:
        if name == "PORT":
            if now != str(port):
                facts.notes.append(f"PORT was {now}: Shoal chooses it, others reach the service at {port}")
            facts.moved = True
            return None
        own = facts.name.upper().replace("-", "_").replace(".", "_")
        if now == str(port) and (_OWN_PORT.match(name) or (name.startswith(own) and name.endswith("PORT"))):
            facts.moved = True
            out.comments[name] = f"was {now}: the port that Shoal chooses"
            return "${port}"
        further = next((label for label, number in facts.further.items() if now == str(number)), None)
        if further is not None and name.upper().endswith("PORT"):
            out.comments[name] = f"was {now}: the port that Shoal chooses"
            return f"${{port.{further}}}"
        if _OWN_ADDRESS.match(name):
            address = re.compile(rf"(0\.0\.0\.0|\[::\]|127\.0\.0\.1|\+|\*|localhost|(?<![^\s=/])):{port}(?!\d)")
            changed = address.sub("127.0.0.1:${port}", value)
            if changed != value:
                facts.moved = True
                out.comments[name] = f"was {value.replace('$$', '$')}: the port that Shoal chooses"
                return changed
    if name == "PYTHONPATH":
        return _python_path(value, facts, folder)
    if value.startswith("/") and facts.files is not None and not value.startswith("//"):
        inside = facts.files.find(value)
        whole = posixpath.normpath(value)
        if inside is not None and folder.relative(inside) is not None and whole.count("/") > 0 and whole != "/":
            out.comments[name] = f"was {value}"
            return literal(relative_path(inside, facts.cwd))
    changed = renamed(value, name)
    if changed != value:
        out.comments[name] = f"was {_shown(value)}"
    return changed


def _python_path(value: str, facts: Facts, folder: Folder) -> str | None:
    """Those of its folders that are here; a relative one is relative to the working directory, as in the image."""
    places = []
    for part in value.split(":"):
        found = (
            facts.files.find(part) or facts.files.workdir(part) if facts.files is not None and part[:1] == "/" else None
        )
        if found is not None and folder.relative(found) is not None:
            places.append(relative_path(found, facts.cwd))
        elif part and not part.startswith(("/", "$")):
            places.append(part)
    return literal(":".join(places)) if places else None


def _default_of(value: str) -> str:
    """What a value is where nobody sets the variables in it."""
    return re.sub(r"\$\{[A-Za-z_]\w*:-([^}]*)\}", r"\1", value)


def _shown(value: str) -> str:
    """Without the password of an address, which needs no second place."""
    return re.sub(r"://([^:/@\s]*):[^@/\s]+@", r"://\1:...@", value.replace("$$", "$"))
