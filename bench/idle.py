"""What Shoal costs when nothing happens: memory and CPU of daemon, keeper and Envoy, with the hello app.

Memory is PSS: what is shared with other processes is counted by its share. The services' own processes are shown too,
and are not part of the sum. The aim is under 150 MB and under 1 % of one CPU.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.plane import Plane, plane
from tests.support.port import free_port

HELLO = Path(__file__).parents[1] / "examples" / "hello"
SETTLE_S = 5.0
MEASURE_S = 20.0
OWN = ("daemon", "keeper", "envoy")
MB = 1_000_000


@dataclass(frozen=True)
class Usage:
    pss: int
    """Bytes."""
    cpu_s: float
    """User and system time since it started."""


def main() -> dict[str, object]:
    """Takes about half a minute. Returns `{"daemon": {"pss_mb", "cpu_percent"}, ..., "total": {...}}`."""
    folder = Path(tempfile.mkdtemp(prefix="shoal-bench-", dir="/tmp"))
    try:
        shutil.copytree(HELLO, folder / "hello", ignore=shutil.ignore_patterns(".shoal", "__pycache__"))
        app = folder / "hello" / "shoal.yaml"
        text = app.read_text()
        for port in ("8080", "8081"):  # the bench must run beside whatever holds these
            text = text.replace(port, str(free_port()))
        app.write_text(text)
        with plane(folder / "hello", quiet=True) as shoal:
            shoal.up()
            time.sleep(SETTLE_S)
            result = measure(pids_of(shoal))
    finally:
        shutil.rmtree(folder)
    show(result)
    return result


def pids_of(shoal: Plane) -> dict[str, int]:
    """Of Shoal's own three processes first, then of the replicas."""
    own = {"daemon": int(shoal.status()["daemon_pid"]), "keeper": shoal.keeper_pid()}
    return own | shoal.pids()


def measure(pids: Mapping[str, int]) -> dict[str, object]:
    before = {name: usage(pid) for name, pid in pids.items()}
    started = time.monotonic()
    time.sleep(MEASURE_S)
    elapsed_s = time.monotonic() - started
    rows: dict[str, dict[str, float]] = {}
    for name, pid in pids.items():
        now = usage(pid)
        percent = 100 * (now.cpu_s - before[name].cpu_s) / elapsed_s
        rows[name] = {"pss_mb": round(now.pss / MB, 1), "cpu_percent": round(percent, 2)}
    total = {key: round(sum(rows[name][key] for name in OWN), 2) for key in ("pss_mb", "cpu_percent")}
    return {**rows, "total": total, "measured_s": round(elapsed_s, 1)}


def usage(pid: int) -> Usage:
    folder = Path(f"/proc/{pid}")
    rollup = (folder / "smaps_rollup").read_text()
    pss_kb = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return Usage(pss=pss_kb * 1024, cpu_s=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))


def show(result: Mapping[str, object]) -> None:
    print(f"{'idle, hello app':<20} {'PSS, MB':>8} {'CPU, %':>8}")
    for name, row in result.items():
        if isinstance(row, dict):
            label = "daemon+keeper+envoy" if name == "total" else name
            print(f"{label:<20} {row['pss_mb']:8.1f} {row['cpu_percent']:8.2f}")
