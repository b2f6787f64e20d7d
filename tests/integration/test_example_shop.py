"""The shop's own tests, in an environment with the shop's own requirements."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOP = Path(__file__).parents[2] / "examples" / "shop"

pytestmark = pytest.mark.integration


def test_the_shops_own_tests_pass_in_its_own_environment(tmp_path: Path) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    venv = tmp_path / "venv"
    # httpx2: what the TestClient of newer Starlettes is made of.
    packages = ["-r", str(SHOP / "requirements.txt"), "pytest", "httpx2"]
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(venv)],
        [uv, "pip", "install", "--quiet", "--python", str(venv), *packages],
    ):
        subprocess.run(command, check=True, timeout=100)
    # `-c /dev/null`: the repository's pytest settings ask for plugins that the shop does not have.
    tests = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(SHOP), str(SHOP / "tests")]
    done = subprocess.run(
        [venv / "bin" / "python", "-m", "pytest", *tests],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout, done.stdout
