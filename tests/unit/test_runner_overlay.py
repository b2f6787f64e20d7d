"""The overlay's list: pinned like everything else, and free of addresses."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

RUNNER = Path(__file__).parents[2] / "src" / "shoal" / "runner"
LOCK = Path(__file__).parents[2] / "requirements.lock"


def pinned(text: str, name: str) -> tuple[str, set[str]]:
    """Version and hashes of a package in a lock."""
    found = re.search(rf"^{name}==(\S+)((?: \\\n +--hash=\S+)+)", text, re.MULTILINE)
    assert found is not None
    return found[1], set(re.findall(r"--hash=(\S+)", found[2]))


def test_replicas_are_served_by_the_granian_that_was_tested() -> None:
    requirements = (RUNNER / "requirements.txt").read_text()
    assert pinned(requirements, "granian") == pinned(LOCK.read_text(), "granian")
    assert "://" not in requirements


def test_the_runner_imports_the_standard_library_alone() -> None:
    """granian comes by name, at run time, when the path is as the service has it."""
    foreign = set()
    for path in RUNNER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                foreign |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                foreign.add(node.module.partition(".")[0])
    assert foreign <= sys.stdlib_module_names
