"""The shop's own tests, each service's in its own folder, as whoever copies it runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOP = Path(__file__).parents[2] / "examples" / "shop"
SERVICES = sorted(path.parent.name for path in SHOP.glob("*/tests"))

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_own_tests_pass(service: str) -> None:
    """In this environment, which has what all of them require: four of their own would take a minute more."""
    folder = SHOP / service
    # `-c /dev/null`: without the repository's settings.
    arguments = ["-q", "-W", "error", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(folder), "tests"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout, done.stdout
