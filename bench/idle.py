"""What Shoal costs when nothing happens: memory and CPU of daemon, keeper and Envoy, with the hello app.

Memory is PSS: what is shared with other processes is counted by its share. The services' own processes are shown too,
and are not part of the sum. The aim is under 150 MB and under 1 % of one CPU.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from tests.support.plane import Plane, plane
from tests.support.port import free_port

from bench.apps import temporary_folder
from bench.processes import cpu_ns, memory_kb
from bench.result import Measure, Result, Spread

HELLO = Path(__file__).parents[1] / "examples" / "hello"
SETTLE_S = 5.0
MEASURE_S = 20.0
OWN = ("daemon", "keeper", "envoy")
MEMORY_MB, CPU_PERCENT = 150.0, 1.0


def run(quick: bool) -> Result:
    """Takes about half a minute."""
    with temporary_folder() as folder:
        shutil.copytree(HELLO, folder / "hello", ignore=shutil.ignore_patterns(".shoal", "__pycache__"))
        app = folder / "hello" / "shoal.yaml"
        text = app.read_text()
        for port in ("8080", "8081"):  # the bench must run beside whatever holds these
            text = text.replace(port, str(free_port()))
        app.write_text(text)
        with plane(folder / "hello", quiet=True) as shoal:
            shoal.up()
            time.sleep(SETTLE_S)
            found = measure(pids_of(shoal), 5.0 if quick else MEASURE_S)
    return Result(
        name="idle",
        title="Doing nothing",
        measures=[
            _measure(found, "pss_mb", "memory (PSS)", "MB", MEMORY_MB),
            _measure(found, "cpu_percent", "CPU", "% of one", CPU_PERCENT),
        ],
        notes=["the replicas do not count"],
    )


def _measure(found: Mapping[str, Mapping[str, float]], key: str, what: str, unit: str, limit: float) -> Measure:
    one = {name: Spread.of([row[key]]) for name, row in found.items()}
    total = sum(found[name][key] for name in OWN)
    return Measure(
        what=f"idle: {what} of daemon, keeper and Envoy, hello app",
        unit=unit,
        ours=Spread.of([total]),
        beside=one,
        target=f"under {limit:g}",
        met=total < limit,
    )


def pids_of(shoal: Plane) -> dict[str, int]:
    """Of Shoal's own three processes first, then of the replicas."""
    own = {"daemon": int(shoal.status()["daemon_pid"]), "keeper": shoal.keeper_pid()}
    return own | shoal.pids()


def measure(pids: Mapping[str, int], for_s: float) -> dict[str, dict[str, float]]:
    """`{"daemon": {"pss_mb", "cpu_percent"}, ...}`"""
    before = {name: cpu_ns([pid]) for name, pid in pids.items()}
    started = time.monotonic()
    time.sleep(for_s)
    elapsed_s = time.monotonic() - started
    return {
        name: {
            "pss_mb": memory_kb(pid, "Pss") * 1024 / 1e6,
            "cpu_percent": (cpu_ns([pid]) - before[name]) / 1e7 / elapsed_s,
        }
        for name, pid in pids.items()
    }
