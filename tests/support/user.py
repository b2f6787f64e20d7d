"""Running as somebody who is not root: uid 65534, with nothing but a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534


class UnavailableError(Exception):
    """This machine cannot do it; says why."""


@dataclass(frozen=True)
class Somebody:
    """How to run a Python that can import Shoal, as another user."""

    uid: int
    python: Sequence[str]
    """The start of an argv: `[*python, "-m", "shoal", ...]`."""
    environment: Mapping[str, str]


def nobody(folder: Path) -> Somebody:
    """`folder`: readable by everyone (not pytest's tmp_path), for a home and, where needed, a Python.

    UnavailableError: we are not root, or no Python on this machine is open to others. Ours may lie below /root: then
    a system one of the same version is given our packages.
    """
    if os.getuid() != 0:
        raise UnavailableError("only root can become another user")
    become = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--"]
    if shutil.which("setpriv") is None:
        raise UnavailableError("there is no setpriv (package util-linux)")
    home = folder / "home"
    home.mkdir(parents=True)
    folder.chmod(0o755)
    os.chown(home, NOBODY, NOBODY)
    environment = {
        "HOME": str(home),
        "USER": "nobody",
        "TMPDIR": "/tmp",
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "UV_CACHE_DIR": str(home / ".cache" / "uv"),
    }
    for python in [Path(sys.executable), *_system_pythons(folder)]:
        found = Somebody(
            NOBODY, [*become, str(python)], environment | {"PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin"}
        )
        if _works(found):
            return found
    raise UnavailableError(f"no Python {sys.version_info.major}.{sys.version_info.minor} here is open to other users")


def _works(somebody: Somebody) -> bool:
    # An interpreter that may not read its own library runs on another's: it must find the version and the files.
    version = tuple(sys.version_info[:2])
    check = f"""
import os, sys, shoal.cli
assert sys.version_info[:2] == {version}
for path in (os.path.realpath(sys.executable), sys.prefix, os.__file__): os.stat(path)
"""
    done = subprocess.run(
        [*somebody.python, "-c", check], env=dict(somebody.environment), capture_output=True, check=False, cwd="/"
    )
    return done.returncode == 0


def _system_pythons(folder: Path) -> list[Path]:
    """A virtual environment at `folder/venv` on the system's Python of our version, which borrows our packages."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    system = Path("/usr/bin") / name
    if not system.exists():
        return []
    venv = folder / "venv"
    made = subprocess.run([system, "-m", "venv", "--without-pip", venv], capture_output=True, check=False)
    if made.returncode != 0:
        return []
    import shoal

    packages = sysconfig.get_paths()["purelib"]
    source = Path(shoal.__file__).parents[1]
    (venv / "lib" / name / "site-packages" / "borrowed.pth").write_text(f"{packages}\n{source}\n")
    for tool in ("uv", "envoy"):
        ours = Path(sys.executable).with_name(tool)
        if ours.exists():
            (venv / "bin" / tool).symlink_to(ours)
    return [venv / "bin" / "python"]
