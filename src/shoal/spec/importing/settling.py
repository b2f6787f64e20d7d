"""The last word is the app file's own check: what it refuses is taken out and reported, so that the result is valid."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from shoal.errors import UsageError
from shoal.spec.importing.report import Lost
from shoal.spec.importing.writing import Draft, render
from shoal.spec.load import load_text
from shoal.spec.problems import Problem, SpecError

_PATH = re.compile(r"services\.(?P<service>[\w-]+|'[^']*')(?:\.(?P<key>\w+))?(?:\.(?P<name>[\w-]+|'[^']*'))?")


def settle(
    head: Sequence[str],
    app: str,
    drafts: list[Draft],
    more: dict[str, Any],
    comments: dict[str, str],
    tail: Sequence[str],
    folder: Path,
    hostname: str,
    required: Collection[str],
) -> tuple[str, list[Lost]]:
    """The text, and what was taken out. `required`: variables that will be set. Raises UsageError when nothing is
    left."""
    environ = dict.fromkeys(required, "set")
    cut: list[Lost] = []
    while drafts or "jobs" in more:
        text = render(head, app, drafts, more, comments, tail)
        try:
            load_text(text.encode("utf-8", "replace"), "shoal.yaml", folder.resolve(), environ, hostname)
            return text, cut
        except SpecError as error:
            before = len(cut)
            for problem in error.problems:
                _take_out(problem, drafts, more, cut)
            if len(cut) == before:
                raise UsageError(
                    "what it becomes is no valid app file",
                    way_out="import a part of it: --service",
                    detail="\n".join(problem.message for problem in error.problems),
                ) from None
    raise UsageError(
        "nothing is left that can be run",
        way_out="write the app file by hand: docs/reference/app-file.md",
        detail="\n".join(str(item) for item in cut),
    )


def _take_out(problem: Problem, drafts: list[Draft], more: dict[str, Any], cut: list[Lost]) -> None:
    match = _PATH.match(problem.path)
    draft = next((d for d in drafts if match and d.name == match["service"].strip("'")), None)
    why = problem.message
    if draft is None or match is None:
        top = problem.path.partition(".")[0]
        if top in more:
            del more[top]
            cut.append(Lost(where=top, what="", why=why))
        return
    key, name = match["key"], (match["name"] or "").strip("'")
    where = f"{draft.name}.{key}" if key else draft.name
    env = draft.keys.get("env", {})
    if key == "env" and name in env:
        del env[name]
        cut.append(Lost(where=where, what=name, why=why, way_out=problem.way_out))
        if not env:
            del draft.keys["env"]
    elif key in draft.keys and key not in ("run", "command"):
        value = draft.keys.pop(key)
        cut.append(Lost(where=where, what=str(value) if isinstance(value, str | int) else "", why=why))
    elif draft in drafts and key not in ("env", "calls", "after"):
        drafts.remove(draft)
        cut.append(Lost(where=draft.name, what="", why=why, way_out=problem.way_out))
        for other in drafts:
            for words in ("calls", "after"):
                if draft.name in other.keys.get(words, []):
                    other.keys[words] = [word for word in other.keys[words] if word != draft.name]
                    if not other.keys[words]:
                        del other.keys[words]
        routes = more.get("gateway", {}).get("routes", {})
        for route in [route for route, service in routes.items() if service == draft.name]:
            del routes[route]
        if "gateway" in more and not routes:
            del more["gateway"]
