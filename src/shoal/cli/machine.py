"""What `shoal doctor` looks at. Each look tries the thing itself, and turns its failure into words."""

from __future__ import annotations

import os
import platform
import resource
import select
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.internal import api_implementation

from shoal.engines.local import shared_names
from shoal.engines.local.keeper.start import SOCKET_PATH_MAX, own_folder
from shoal.engines.local.names import detect
from shoal.engines.local.networks import detection, ways_out
from shoal.engines.local.ports import WIDTH_MIN, kernel_range, lease_range
from shoal.engines.local.resources import programs
from shoal.engines.local.uv import find_uv
from shoal.errors import ShoalError, StoreError
from shoal.paths import StateFolder, run_base
from shoal.store.vault import check_key
from shoal.xds.envoy import find_envoy

FILES_MIN = 4096
"""Open files: Envoy takes two for each edge and connection."""
TRIAL_S_MAX = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    name: str
    state: str
    """`ok`, `degraded`: works, with less; `failed`: an app cannot run."""
    detail: str
    way_out: str = ""


def examine() -> list[Finding]:
    """Everything, in the order in which `shoal up` needs it."""
    looks: tuple[tuple[str, Callable[[str], Finding]], ...] = (
        ("system", _system),
        ("python", _python),
        ("envoy", _envoy),
        ("uv", _uv),
        ("postgres", _postgres),
        ("nats", _nats),
        ("key", _key),
        ("names", _names),
        ("networks", _networks),
        ("egress", _egress),
        ("run folder", _run_folder),
        ("open files", _open_files),
        ("ports", _ports),
        ("protobuf", _protobuf),
    )
    return [look(name) for name, look in looks]


def _system(name: str) -> Finding:
    detail = f"{platform.system()} {platform.release()}, {platform.machine()}"
    if hasattr(select, "epoll") and hasattr(os, "pidfd_open"):
        return Finding(name=name, state="ok", detail=detail)
    way_out = "use Linux 5.3 or newer, or a Linux virtual machine"
    return Finding(name=name, state="failed", detail=f"{detail}: apps run on Linux only", way_out=way_out)


def _python(name: str) -> Finding:
    return Finding(name=name, state="ok", detail=f"{platform.python_version()} at {sys.executable}")


def _envoy(name: str) -> Finding:
    return _program(name, find_envoy, _envoy_version)


def _uv(name: str) -> Finding:
    return _program(name, find_uv, _uv_version)


def _postgres(name: str) -> Finding:
    return _for_some(_program(name, lambda: programs.postgres_folder() / "postgres", lambda text: text.split()[-1]))


def _nats(name: str) -> Finding:
    return _for_some(_program(name, programs.nats_server, lambda text: text.strip().rpartition("v")[2]))


def _for_some(found: Finding) -> Finding:
    """Apps that do not use it run without."""
    return replace(found, state="degraded") if found.state == "failed" else found


def _key(name: str) -> Finding:
    """Of the secrets."""
    try:
        return Finding(name=name, state="ok", detail=f"secrets: {check_key()}")
    except StoreError as error:
        return Finding(name=name, state="degraded", detail=error.message, way_out=error.way_out)


def _program(name: str, find: Callable[[], Path], read: Callable[[str], str]) -> Finding:
    """Finds it, and sees whether it starts."""
    try:
        path = find()
        trial = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=TRIAL_S_MAX, check=False, errors="replace"
        )
    except ShoalError as error:
        return Finding(name=name, state="failed", detail=error.message, way_out=error.way_out)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(name=name, state="failed", detail=f"does not start: {error}", way_out="reinstall it")
    if trial.returncode != 0:
        words = (trial.stderr.strip() or f"exit code {trial.returncode}").splitlines()[0]
        return Finding(name=name, state="failed", detail=f"{path} does not start: {words}", way_out="reinstall it")
    return Finding(name=name, state="ok", detail=f"{read(trial.stdout)} at {path}")


def _envoy_version(text: str) -> str:
    """`.../envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL` -> `1.40.0`."""
    parts = text.strip().rpartition("version: ")[2].split("/")
    return parts[1] if len(parts) > 1 else text.strip()


def _uv_version(text: str) -> str:
    """`uv 0.13.9 (x86_64-unknown-linux-gnu)` -> `0.13.9`."""
    return [*text.split(), "", ""][1]


def _names(name: str) -> Finding:
    works, why = detect()
    if works:
        return Finding(name=name, state="ok", detail="services find each other by name (private hosts files)")
    what, _, way_out = why.rpartition("; ")
    if shared_names.why_not() == "":
        what = f"names are in the container's /etc/hosts, which does not tell who calls: {what or why}"
    return Finding(name=name, state="degraded", detail=what or why, way_out=way_out if what else "")


def _networks(name: str) -> Finding:
    works, why = detection.detect()
    if works:
        return Finding(name=name, state="ok", detail="replicas can have networks of their own (network: own)")
    what, _, way_out = why.partition("; ")
    return Finding(name=name, state="degraded", detail=f"no 'network: own': {what}", way_out=way_out)


def _egress(name: str) -> Finding:
    works, why = ways_out.detect()
    if works:
        return Finding(name=name, state="ok", detail="replicas with networks of their own reach the outside (pasta)")
    what, _, way_out = why.partition("; ")
    return Finding(name=name, state="degraded", detail=f"'network: own' has no way outside: {what}", way_out=way_out)


def _run_folder(name: str) -> Finding:
    base = run_base()
    socket = StateFolder(Path("/")).keeper_socket
    length = len(os.fsencode(socket))
    if length > SOCKET_PATH_MAX:
        detail = f"{base} is too long for sockets: {length} of {SOCKET_PATH_MAX} bytes"
        return Finding(name=name, state="failed", detail=detail, way_out="set XDG_RUNTIME_DIR to a shorter one")
    try:
        own_folder(base)
    except ShoalError as error:
        return Finding(name=name, state="failed", detail=error.message, way_out=error.way_out)
    return Finding(name=name, state="ok", detail=f"{base}, ours alone")


def _open_files(name: str) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES_MIN:
        detail = f"at most {soft} (up to {hard} may be set); many connections at once need more"
        way_out = f"ulimit -n {max(FILES_MIN, min(hard, 65536))}"
        return Finding(name=name, state="degraded", detail=detail, way_out=way_out)
    detail = "without a limit" if soft == resource.RLIM_INFINITY else f"at most {soft}"
    return Finding(name=name, state="ok", detail=detail)


def _ports(name: str) -> Finding:
    first, last = kernel_range()
    ours = lease_range((first, last))
    detail = f"{ours.start} to {ours.stop - 1} for replicas; the kernel takes {first} to {last}"
    if len(ours) < WIDTH_MIN or ours.start in range(first, last + 1):
        way_out = "sysctl net.ipv4.ip_local_port_range='32768 60999' (as root)"
        return Finding(name=name, state="degraded", detail=f"{detail}: they may collide", way_out=way_out)
    return Finding(name=name, state="ok", detail=detail)


def _protobuf(name: str) -> Finding:
    kind = api_implementation.Type()
    if kind == "upb":
        return Finding(name=name, state="ok", detail="upb")
    way_out = "install the binary wheel of protobuf"
    return Finding(name=name, state="degraded", detail=f"{kind}: 100 times slower than upb", way_out=way_out)
