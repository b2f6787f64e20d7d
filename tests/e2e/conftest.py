"""Planes for the end-to-end tests, and copies of the examples on ports of their own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.port import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
LEFT_OUT = (".shoal", "__pycache__", "data", "node_modules")


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], tuple[Path, dict[int, int]]]:
    """Copies an example to a temporary folder; gives the folder, and the written port -> the port used instead."""

    def copy(name: str) -> tuple[Path, dict[int, int]]:
        folder = tmp_path / name
        shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
        ports: dict[int, int] = {}

        def replace(match: re.Match[str]) -> str:
            number = int(match[0])
            return str(ports.setdefault(number, free_port()))

        for path in [path for pattern in ("*.yaml", "*.py", "*.js") for path in folder.rglob(pattern)]:
            path.write_text(re.sub(r"\b(300[0-3]|808[018]|500[01]|50051)\b", replace, path.read_text()))
        return folder, ports

    return copy
