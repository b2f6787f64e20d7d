"""Which files of a folder a Python program is made of: found by reading `import` lines, without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

FILES_MAX = 5000


class Imports:
    """Remembers what each file imports until the file changes."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], tuple[tuple[str, int], ...]]] = {}

    def of_module(self, folder: Path, module: str) -> set[Path]:
        """The files that `import module` reads from `folder`, and what they read, also inside functions. A file with a
        syntax error counts, and is read no further."""
        return self._closure(folder, _resolve(folder, module))

    def of_file(self, file: Path) -> set[Path]:
        """The same of a program, `python file`."""
        return self._closure(file.parent, [file]) if file.is_file() else set()

    def _closure(self, folder: Path, start: Iterable[Path]) -> set[Path]:
        found: set[Path] = set()
        todo = list(start)
        while todo and len(found) < FILES_MAX:
            file = todo.pop()
            if file in found:
                continue
            found.add(file)
            for name, level in self._imports(file):
                base = folder
                if level:
                    base = file.parent
                    for _ in range(level - 1):
                        base = base.parent
                    if not base.is_relative_to(folder):
                        continue
                todo += _resolve(base, name)
        return found

    def _imports(self, file: Path) -> tuple[tuple[str, int], ...]:
        try:
            status = file.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            known = self._known.get(file)
            if known is not None and known[0] == stamp:
                return known[1]
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError):
            # While it is being written it may be anything; what it imported before is the better guess.
            known = self._known.get(file)
            return known[1] if known is not None else ()
        found = tuple(_named(tree))
        self._known[file] = (stamp, found)
        return found


def _named(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Module and level: (`shop.users`, 0), (`models`, 1) for `from .models import X`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if base:
                yield base, node.level
            yield from ((f"{base}.{alias.name}".lstrip("."), node.level) for alias in node.names if alias.name != "*")


def _resolve(folder: Path, module: str) -> list[Path]:
    """The packages on the way and the module itself, those that are files here."""
    found = []
    here = folder
    for part in module.split(".") if module else []:
        candidates = (here / part / "__init__.py", here / f"{part}.py")
        found += [path for path in candidates if path.is_file()]
        here = here / part
    return found
