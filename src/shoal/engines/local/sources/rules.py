"""What of a folder is no source: the usual things, and what `.gitignore` and `.shoalignore` say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pathspec import GitIgnoreSpec

from shoal.errors import EngineError

NEVER = frozenset({".shoal", ".git", ".hg", ".svn", ".venv", "__pycache__"})
"""Folders that no rule brings back."""
USUAL = frozenset({"node_modules", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".DS_Store"})
"""Beside these, `.env*` and `*.pyc`."""
GIT, OWN = ".gitignore", ".shoalignore"

_Spec = tuple[str, GitIgnoreSpec]
"""The folder it stands in, with a `/` at its end, and what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Those that hold in one folder. A nearer file wins over a farther one, `.shoalignore` over every `.gitignore`,
    and both over what is usual. As in git, nothing below a folder that is left out can come back."""

    git: tuple[_Spec, ...] = ()
    own: tuple[_Spec, ...] = ()

    @classmethod
    def above(cls, folder: Path) -> Rules:
        """What holds in `folder` because of the folders above it, up to the top of its git repository."""
        top = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)
        rules = cls()
        for parent in reversed(folder.parents):
            if top is not None and parent.is_relative_to(top):
                rules = rules.entering(str(parent), frozenset({GIT}))
        return rules

    def entering(self, folder: str, names: frozenset[str]) -> Rules:
        """The rules inside `folder`, which holds these names. EngineError: its rules cannot be read."""
        rules = self
        if GIT in names and (spec := _read(folder, GIT)) is not None:
            rules = replace(rules, git=(*rules.git, spec))
        if OWN in names and (spec := _read(folder, OWN)) is not None:
            rules = replace(rules, own=(*rules.own, spec))
        return rules

    def leave_out(self, path: str, *, is_folder: bool) -> bool:
        """`path`: absolute."""
        if is_folder and path.rpartition("/")[2] in NEVER:
            return True
        named = f"{path}/" if is_folder else path
        for base, spec in self._nearest_first():
            verdict = spec.check_file(named[len(base) :]).include
            if verdict is not None:
                return verdict
        name = path.rpartition("/")[2]
        return name in USUAL or name.startswith(".env") or name.endswith(".pyc")

    def _nearest_first(self) -> Iterator[_Spec]:
        yield from reversed(self.own)
        yield from reversed(self.git)


def _read(folder: str, name: str) -> _Spec | None:
    file = Path(folder, name)
    try:
        lines = file.read_text("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EngineError(f"{file} cannot be read: {error.strerror}", way_out="mend it, or remove it") from error
    try:
        spec = GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise EngineError(
            f"{file} is not understood: {error}", way_out="git says more: git check-ignore -v ."
        ) from error
    base = folder if folder.endswith("/") else f"{folder}/"
    return base, spec
