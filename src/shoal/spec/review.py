"""Each value alone: the document against the models, with every problem at its place.

What is wrong is cut out and the rest is read again, so that one bad port does not hide a misspelt service.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shoal.spec import traffic
from shoal.spec.around import GivenFileFile, StaticFile
from shoal.spec.document import Document, Loc
from shoal.spec.migrating import MigrationFile
from shoal.spec.outside import ExternalFile
from shoal.spec.problems import Problem, did_you_mean
from shoal.spec.resources import ResourceFile
from shoal.spec.rolling import RolloutFile
from shoal.spec.schema import AppFile, DefaultsFile, GatewayFile, HealthFile, JobFile, PortFile, RouteFile, ServiceFile
from shoal.spec.secrets import GivenSecret, SecretFile

_DEEPEST = 4
"""Values are cut out at this depth at most: `services.web.env.NAME`."""


@dataclass(slots=True)
class Review:
    """A document being checked: what is wrong so far, and where."""

    document: Document
    problems: list[Problem] = field(default_factory=list)
    bad: set[Loc] = field(default_factory=set)
    """What was cut out. Nothing more should be said about it, or concluded from its absence."""

    def at_key(self, loc: Loc, message: str, way_out: str = "") -> None:
        self.problems.append(self.document.at_key(loc, message, way_out))

    def at_value(self, loc: Loc, message: str, way_out: str = "", *, offset: int | None = None) -> None:
        self.problems.append(self.document.at_value(loc, message, way_out, offset=offset))

    def sound(self, *loc: str | int) -> bool:
        """Whether neither this, nor anything around or in it, was cut out."""
        return not any(bad[: len(loc)] == loc[: len(bad)] for bad in self.bad)

    def read(self) -> AppFile:
        """The file's sound part; what is not sound is in `problems` and `bad`."""
        self.problems.extend(self.document.problems)
        plain = self.document.plain
        if not isinstance(plain, dict):
            if not self.problems:
                what = "the file is empty" if plain is None else "the file must hold keys and values"
                self.at_value((), what, "the smallest app is: services: {hello: {run: 'hello:app', port: 8080}}")
            self.bad.add(())
            return AppFile()
        self._drop_empty(plain, ())
        while True:
            try:
                return AppFile.model_validate(plain)
            except ValidationError as error:
                cuts = {self._explain(detail) for detail in error.errors(include_url=False)}
                self.bad |= cuts
                if sum(_cut(plain, loc) for loc in cuts) == 0:
                    plain.clear()  # what is wrong was not found: each round must leave less than it got
                    self.bad.add(())

    def _drop_empty(self, plain: dict[str, Any], loc: Loc) -> None:
        """`port:` with nothing after it was forgotten, and is not the default."""
        for key, value in list(plain.items()):
            here = (*loc, key)
            if isinstance(value, dict):
                self._drop_empty(value, here)
            elif value is None and loc[2:] == ("calls",):
                plain[key] = {}  # a name alone, among others that have something to say
            elif value is None and (loc in (("volumes",), ("resources",), ("secrets",)) or loc[2:] == ("secrets",)):
                plain[key] = {}  # as Compose writes them
            elif value is None:
                hint = "write '' for an empty one" if "env" in loc else "give it one, or remove it"
                self.at_key(here, "has no value", hint)
                self.bad.add(here)
                del plain[key]

    def _placed(self, loc: Loc) -> Loc:
        """Where that is in the file: what `calls` lists was read as a mapping, and a value alone stands for one."""
        plain = self.document.plain
        placed: Loc = ()
        for part in loc:
            if isinstance(plain, list) and placed[2:] == ("calls",):
                index = next((i for i, item in enumerate(plain) if isinstance(item, dict) and part in item), None)
                if index is not None:
                    placed, plain = (*placed, index), plain[index]
            if not isinstance(plain, dict | list) and placed[-1] in traffic.MODELS:
                return placed
            placed = (*placed, part)
            plain = plain.get(part, {}) if isinstance(plain, dict) else {}
        return placed

    def _explain(self, detail: ErrorDetails) -> Loc:
        """Puts the problem into words; returns what to cut out."""
        loc, kind, context = self._placed(tuple(detail["loc"])), detail["type"], detail.get("ctx", {})
        cut = loc[:_DEEPEST]
        for i, part in enumerate(cut):
            if isinstance(part, int):
                cut = cut[:i]
                break
        if kind == "shoal":
            self.at_value(loc, context["message"], context["way_out"])
        elif kind == "extra_forbidden":
            model = _model_at(tuple(detail["loc"])[:-1])
            known = list(model.model_fields)
            if issubclass(model, traffic.TrafficKeys):
                known.sort(key=traffic.KEYS.__contains__)  # its own come first
            self.at_key(
                loc, "unknown key", did_you_mean(str(loc[-1]), list(known), otherwise=f"known: {', '.join(known)}")
            )
        elif kind in ("model_type", "dict_type"):
            self.at_value(loc, "must be a mapping of keys and values")
        else:
            self.at_value(loc, detail["msg"].lower())
        return cut


def _model_at(loc: Loc) -> type[BaseModel]:
    if not loc:
        return AppFile
    if len(loc) > 1 and loc[0] in ("services", "defaults", "jobs") and loc[-1] in traffic.MODELS:
        return traffic.MODELS[str(loc[-1])]
    match loc:
        case ("services", _, "health" | "startup" | "liveness", *_):
            return HealthFile
        case ("defaults", "health" | "startup" | "liveness", *_):
            return HealthFile
        case ("services" | "jobs", _, "calls", _):
            return traffic.EdgeFile
        case ("services", _, "external", *_):
            return ExternalFile
        case ("services", _, "ports", *_):
            return PortFile
        case ("services", _, "rollout", *_) | ("defaults", "rollout", *_):
            return RolloutFile
        case ("services", _, "migrate", *_):
            return MigrationFile
        case ("secrets", *_):
            return SecretFile
        case ("services" | "jobs", _, "secrets", *_):
            return GivenSecret
        case ("resources", _, *_):
            return ResourceFile
        case ("services", _, "static", *_):
            return StaticFile
        case ("services" | "jobs", _, "files", *_):
            return GivenFileFile
        case ("gateway", "routes", *_):
            return RouteFile
    models: dict[str | int, type[BaseModel]] = {"gateway": GatewayFile, "defaults": DefaultsFile, "jobs": JobFile}
    return models.get(loc[0], ServiceFile)


def _cut(plain: Any, loc: Loc) -> bool:
    """Whether there was something at `loc` to be cut out."""
    for part in loc[:-1]:
        plain = plain.get(part) if isinstance(plain, dict) else None
    if not loc or not isinstance(plain, dict) or loc[-1] not in plain:
        return False
    del plain[loc[-1]]
    return True
