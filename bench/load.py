"""A fixed number of requests over keep-alive connections, and what they cost the processes that answered."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bench.processes import cpu_ns, prefer

CONNECTIONS = 32
TIMEOUT_S = 120.0
_DONE = re.compile(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded")
_RATE = re.compile(r"finished in .*?, ([\d.]+) req/s")


@dataclass(frozen=True, slots=True)
class Load:
    cpu_us: float
    """Of the measured processes, a request."""
    per_second: float


def available() -> str:
    """Why there is no load generator; empty when there is one."""
    return "" if shutil.which("h2load") else "h2load is not here (Debian: nghttp2-client)"


def requests(url: str, count: int, *, connections: int = CONNECTIONS) -> float:
    """Sends them, HTTP/1.1; gives the rate per second. RuntimeError: not every one was answered 2xx or 3xx."""
    done = subprocess.run(
        ["h2load", "--h1", "-t", "1", "-c", str(connections), "-n", str(count), url],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    found, rate = _DONE.search(done.stdout), _RATE.search(done.stdout)
    if found is None or rate is None or int(found[2]) != count:
        raise RuntimeError(f"h2load {url}: {done.stdout[-800:]}{done.stderr[-400:]}")
    return float(rate[1])


def measure(url: str, count: int, pids: Callable[[], Iterable[int]]) -> Load:
    """`pids`: of the processes to measure, threads and all."""
    measured = list(pids())
    before = cpu_ns(measured)
    rate = requests(url, count)
    return Load((cpu_ns(measured) - before) / count / 1000, rate)


def rounds(
    candidates: Mapping[str, tuple[str, Callable[[], Iterable[int]]]],
    count: int,
    times: int,
    failed: dict[str, str],
    needed: str = "Shoal",
) -> dict[str, list[Load]]:
    """Every candidate (url, pids) once a round, in turn, so that a disturbance of the machine meets all of them. The
    order is turned by one each round: none comes always after the same one.

    A candidate that does not answer is left out from then on, and goes to `failed` with the reason; only without the
    needed one there is no result: RuntimeError."""
    prefer([os.getpid()])  # the load generator is in our session
    found: dict[str, list[Load]] = {name: [] for name in candidates}
    for turn in range(-1, times):  # the first, to get warm, is not counted
        names = list(found)
        start = max(turn, 0) % len(names)
        for name in names[start:] + names[:start]:
            url, pids = candidates[name]
            try:
                if turn < 0:
                    prefer(pids())
                    requests(url, max(count // 5, CONNECTIONS))
                else:
                    found[name].append(measure(url, count, pids))
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                if name == needed:
                    raise
                failed[name] = f"failed: {str(error).splitlines()[0][:100]}"
                del found[name]
    return found
