"""`shoal import Procfile`: each process type becomes a service; `web` is the one with a port."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from shoal.errors import UsageError
from shoal.spec.check import label_from, name_flaw
from shoal.spec.importing import commands
from shoal.spec.importing.keys import app_accepts, valid
from shoal.spec.importing.reading import Folder, parse_env
from shoal.spec.importing.report import Imported, Lost, Needed, Row
from shoal.spec.importing.settling import settle
from shoal.spec.importing.variables import Variables
from shoal.spec.importing.writing import Draft
from shoal.spec.problems import did_you_mean, quoted

PORT = 8080
_LINE = re.compile(r"\s*([A-Za-z0-9_-]+)\s*:\s*(\S.*?)\s*\Z")


def processes(text: str) -> dict[str, str]:
    """Process type -> command. Raises UsageError at a line that is neither one, nor empty, nor a comment."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None or not match[2].isprintable():
            raise UsageError(f"line {number} of the Procfile is no process", way_out="write it as 'web: command'")
        if match[1] in found:
            raise UsageError(f"line {number} of the Procfile names '{match[1]}' a second time", way_out="remove one")
        found[match[1]] = match[2]
    if not found:
        raise UsageError("the Procfile names no process", way_out="write one as 'web: command'")
    return found


def import_procfile(path: Path, data: bytes, out: Path, hostname: str, services: Collection[str] = ()) -> Imported:
    """`out`: the folder of the app file to be. Raises UsageError."""
    folder = Folder(path.parent)
    try:
        found = processes(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text", way_out="save it in the encoding UTF-8") from None
    for name in services:
        if name not in found:
            raise UsageError(f"there is no process {quoted(name)}", way_out=did_you_mean(name, list(found)))
    variables = Variables({})
    given = parse_env(folder.text(".env") or "")
    port = int(given["PORT"]) if re.fullmatch(r"[1-9][0-9]{0,4}", given.get("PORT", "")) else PORT
    port = port if port <= 65535 else PORT
    cwd = os.path.relpath(folder.root, out.resolve())
    env_file = os.path.normpath(os.path.join(cwd, ".env"))  # noqa: PTH118 - of two relative paths
    env = {name: variables.own(name, value, ".env") for name, value in given.items() if name != "PORT"}
    from_file = bool(given) and valid({"command": "x", "env_file": [env_file]}, out)
    if from_file:
        variables.required.clear()
        env = {"PORT": "${port}"} if "PORT" in given else {}
    rows: list[Row] = []
    lost: list[Lost] = []
    drafts: list[Draft] = []
    jobs: dict[str, Any] = {}
    taken: set[str] = set()
    for name, command in found.items():
        if services and name not in services:
            rows.append(Row(service=name, becomes="left out", notes=("not chosen: --service",)))
            continue
        notes: list[str] = []
        label = _label(name, hostname, taken)
        if label != name:
            notes.append(f"its name is {label} now")
        if name == "release":
            _release(label, command, jobs, rows, lost)
            continue
        draft = Draft(label)
        _command(draft, command, folder, notes, port if name == "web" else None)
        if cwd != ".":
            draft.keys["cwd"] = cwd
        if from_file:
            draft.keys["env_file"] = [env_file]
        if env and (name == "web" or not from_file):
            draft.keys["env"] = dict(env)
            draft.comment("env", "the port that Shoal chooses, not the one of .env" if from_file else "from .env")
        drafts.append(draft)
        what = f"run {draft.keys['run']}" if "run" in draft.keys else "command" if name == "web" else "worker"
        rows.append(Row(service=name, becomes=f"{what}, port {port}" if name == "web" else what, notes=tuple(notes)))
    if not drafts and not jobs:
        raise UsageError("nothing in the Procfile is a service", detail="\n".join(str(item) for item in lost))
    head = [f"Made from {path.name} by `shoal import`. `shoal check` looks at it, `shoal up` starts it."]
    more = {"jobs": jobs} if jobs else {}
    text, cut = settle(head, label_from(folder.root.name, "app"), drafts, more, {}, (), out, hostname,
                       set(variables.required))  # fmt: skip
    needed = [Needed(name=name, required=True, why=why) for name, why in variables.required.items()]
    return Imported(
        kind="procfile", source=path.name, text=text, rows=tuple(rows), lost=(*lost, *cut),
        needed=tuple(one for one in needed if f"${{{one.name}" in text),
    )  # fmt: skip


def _label(name: str, hostname: str, taken: set[str]) -> str:
    label = name if name_flaw(name, hostname) is None else label_from(name, "service")
    if name_flaw(label, hostname) is not None:
        label = f"{label[:54].rstrip('-')}-service"
    number, base = 2, label
    while label in taken:
        label, number = f"{base[:58].rstrip('-')}-{number}", number + 1
    taken.add(label)
    return label


def _release(label: str, command: str, jobs: dict[str, Any], rows: list[Row], lost: list[Lost]) -> None:
    if app_accepts("jobs", {label: {"command": command}}):
        jobs[label] = {"command": command}
        rows.append(Row(service="release", becomes="a job"))
        return
    rows.append(Row(service="release", becomes="left out", notes=("it runs once, before a release",)))
    lost.append(Lost(where="release", what=command, why="Shoal runs nothing before a release",
                     way_out="run it by hand before `shoal up`"))  # fmt: skip


def _command(draft: Draft, command: str, folder: Folder, notes: list[str], port: int | None) -> None:
    server = commands.python_server(command)
    if server is not None and port is not None and not folder.is_file("gunicorn.conf.py"):
        module = server.target.partition(":")[0].replace(".", "/")
        if folder.is_file(f"{module}.py") or folder.is_file(f"{module}/__init__.py"):
            draft.keys |= {"run": server.target, "port": port}
            draft.comment("run", f"was served by {server.program}; Shoal serves it itself")
            if server.workers is not None and server.workers > 1:
                draft.keys["replicas"] = server.workers
                draft.comment("replicas", f"{server.program} had {server.workers} workers: a replica each")
            return
    if port is None:
        draft.keys["command"] = command
        return
    heard = commands.listening(command, None)
    draft.keys |= {"command": heard.command, "port": port}
    if not heard.moved:
        script = commands.script_of(command)
        text = folder.text(script) if script is not None else None
        if text is None or "PORT" not in text:
            words = "if it does not listen on $PORT, make it do so"
            draft.comment("command", words)
            notes.append(words)
