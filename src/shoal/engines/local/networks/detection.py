"""Whether replicas can have networks of their own here: found by trying once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TRIAL = Path(__file__).parents[1] / "keeper" / "trial.py"
TRY_S_MAX = 10.0


def detect(python: str = sys.executable) -> tuple[bool, str]:
    """And if not, why, with the way out. Blocks for some 100 ms, at most 10 s: call it in a thread."""
    if sys.platform != "linux":
        return False, f"networks of their own need Linux; {OTHERWISE}"
    try:
        result = subprocess.run(
            [python, "-I", "-S", str(TRIAL)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TRY_S_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"the trial could not be made ({error}); {OTHERWISE}"
    if result.returncode == 0:
        return True, ""
    words = result.stderr.strip().partition("\n")[0] or f"the trial ended with exit code {result.returncode}"
    return False, f"{words}; {_way_out(words)}"


OTHERWISE = "use 'network: host' and let the service listen on $PORT (or ${port} in its command)"


def _way_out(words: str) -> str:
    """Only what is written on this machine decides the words, never whether we try."""
    for path, forbids, way_out in (
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "AppArmor forbids it to users: 'sysctl kernel.apparmor_restrict_unprivileged_userns=0' (as root) allows it",
        ),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "this system forbids it to users: 'sysctl kernel.unprivileged_userns_clone=1' (as root) allows it",
        ),
        (
            "/proc/sys/user/max_net_namespaces",
            "0",
            "this system allows no network namespaces: 'sysctl user.max_net_namespaces=10000' (as root) does",
        ),
    ):
        if _reads(path) == forbids:
            return f"{way_out}; or {OTHERWISE}"
    if "bridge" in words or "pair" in words:
        return f"the kernel modules 'bridge' and 'veth' must be there: 'modprobe -a bridge veth'; or {OTHERWISE}"
    return OTHERWISE


def _reads(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
