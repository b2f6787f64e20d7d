"""The Python packages of others, in an environment of their own: `bench/.work/venv`, made once, ignored by git."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

from shoal.engines.local.uv import find_uv

WORK = Path(__file__).parent / ".work"
WANTED = ("fastapi", "flask", "granian", "gunicorn", "honcho", "httptools", "uvicorn", "uvloop")
TIMEOUT_S = 300.0


@cache
def programs() -> Path:
    """The folder of their programs. RuntimeError: they cannot be installed."""
    venv = WORK / "venv"
    bin_folder = venv / "bin"
    if not all((bin_folder / name).exists() for name in ("gunicorn", "uvicorn", "granian", "honcho")):
        WORK.mkdir(exist_ok=True)
        _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(venv))
        _uv("pip", "install", "--quiet", "--compile-bytecode", "--python", str(bin_folder / "python"), *WANTED)
    return bin_folder


def versions() -> dict[str, str]:
    listed = _uv("pip", "list", "--quiet", "--format", "freeze", "--python", str(programs() / "python"))
    pairs = (line.partition("==") for line in listed.splitlines())
    return {name: version for name, _, version in pairs if name.lower() in WANTED}


def _uv(*words: str) -> str:
    done = subprocess.run([find_uv(), *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"uv {words[0]}: {done.stderr.strip()[-600:]}")
    return done.stdout
