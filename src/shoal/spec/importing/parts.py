"""A service on its way from a compose file to an app file."""

from __future__ import annotations

from dataclasses import dataclass, field

from shoal.spec.importing.facts import Facts
from shoal.spec.importing.known import Known, image
from shoal.spec.importing.notation import Mount
from shoal.spec.importing.writing import Draft


@dataclass(slots=True)
class Part:
    """Its facts, and what it becomes."""

    facts: Facts
    label: str
    """Its name in the app file."""
    port: int | None = None
    """Its port in the mesh."""
    draft: Draft | None = None
    """None: it is left out."""
    hosts: set[str] = field(default_factory=set)
    """What others may call it: its name, its aliases."""
    once: bool = False
    """Others wait for its end."""
    values: dict[str, str] = field(default_factory=dict)
    """All its variables, as they will be."""


def outside_port(part: Part, port: int | None) -> int | None:
    """Where this machine has what listens on a port of a left out service, when its container runs by itself."""
    for mapping in part.facts.published:
        if port is None or mapping.target == port:
            return mapping.host
    return port


def covers_source(part: Part, mount: Mount) -> bool:
    """Whether a bind mount puts the source where its image has it: here it is there without."""
    facts = part.facts
    if mount.kind != "bind" or facts.files is None or not mount.target.startswith("/"):
        return False
    inside, below = facts.files.find(mount.target), facts.files.workdir(facts.workdir)
    if inside is None or below is None or facts.files.folder.relative(mount.source) is None:
        return False
    return _is_below(mount.target, facts.workdir) or _is_below(facts.workdir, mount.target)


def shared_volumes(parts: dict[str, Part]) -> list[str]:
    """The names that several services have: in compose that is one volume."""
    drafts = [part.draft.keys.get("volumes", []) for part in parts.values() if part.draft is not None]
    names = [name for volumes in drafts for name in {str(text).partition(":")[0] for text in volumes}]
    return sorted({name for name in names if names.count(name) > 1 and "/" not in name})


def _is_below(path: str, folder: str) -> bool:
    return path.rstrip("/") == folder.rstrip("/") or path.startswith(folder.rstrip("/") + "/")


def title_of(part: Part) -> Known | None:
    return image(part.facts.image or (part.facts.stage.base if part.facts.stage else ""))
