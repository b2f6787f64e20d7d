"""On a machine that is no Linux: what does not run an app works, and `up` says in words what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MAC = """
import asyncio, os, select, subprocess, sys, sysconfig, pydantic, yaml, google.protobuf
sysconfig.get_config_vars()
pydantic.TypeAdapter(int)
sys.platform = "darwin"  # after the modules of others, which look at it themselves
for module, name in ((select, "epoll"), (os, "pidfd_open"), (os, "pipe2")):
    if hasattr(module, name):
        delattr(module, name)
from shoal.cli.main import main
sys.argv[0] = "shoal"
main()
"""


def shoal(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", MAC, *arguments]
    environment = os.environ | {"XDG_RUNTIME_DIR": str(folder), "NO_COLOR": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_an_app_file_is_made_and_looked_at(tmp_path: Path) -> None:
    """What docs/howto/names.md says of macOS."""
    (tmp_path / "Procfile").write_text("web: python -m http.server $PORT\n")
    imported = shoal(tmp_path, "import", "Procfile")
    assert imported.returncode == 0 and (tmp_path / "shoal.yaml").exists(), imported.stderr
    planned = shoal(tmp_path, "plan")
    assert planned.returncode == 0 and "make revision 1 of web" in planned.stdout, planned.stderr


def test_an_app_is_checked_and_not_run_and_each_lack_is_named(tmp_path: Path) -> None:
    (tmp_path / "shoal.yaml").write_text("services: {web: {command: x, port: 3000, network: own}}")
    checked = shoal(tmp_path, "check")
    assert checked.returncode == 0, checked.stderr
    refused = shoal(tmp_path, "up", "-d")
    assert refused.returncode == 6
    assert "running an app needs Linux" in refused.stderr and "Linux virtual machine" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "shoal").exists()
    doctor = shoal(tmp_path, "doctor")
    assert doctor.returncode == 6, doctor.stderr
    words = " ".join(doctor.stdout.split())
    assert "apps run on Linux only" in words
    assert "private hosts files need Linux" in words
    assert "networks of their own need Linux" in words
