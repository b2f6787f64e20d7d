"""What one hop through the proxy costs: CPU a request of Shoal's Envoy, as Shoal configures it, and of other proxies in
front of the same replica, over the same Unix socket."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

from tests.support.plane import plane
from tests.support.port import free_port

from bench.apps import RAW_ASGI, answers, temporary_folder
from bench.load import available, rounds
from bench.processes import family, prefer, wait_until
from bench.proxies import peers
from bench.result import Measure, Result, Spread

TARGET = 1.1


def run(quick: bool) -> Result:
    """RuntimeError: there is no load generator, or a proxy does not answer."""
    if available():
        raise RuntimeError(available())
    count, times = (4_000, 3) if quick else (20_000, 9)
    with temporary_folder() as folder:
        port = free_port()
        files = {
            "raw.py": RAW_ASGI,
            "shoal.yaml": f"app: hop\nservices:\n  raw: {{run: raw:app, port: {port}}}\n",
        }
        with plane(folder / "app", files=files, quiet=True) as shoal:
            shoal.up()
            socket = shoal.run / "raw-r1.sock"
            with peers(_ports(), socket, folder) as (running, missing):
                candidates = {"Shoal": (f"http://127.0.0.1:{port}/", partial(family, shoal.pids()["envoy"]))}
                for proxy in running:
                    try:
                        wait_until(partial(answers, urlsplit(proxy.url).port or 0), f"{proxy.name} answers")
                    except RuntimeError as error:
                        missing[proxy.name] = str(error)
                        continue
                    candidates[proxy.name] = (proxy.url, partial(family, proxy.pid))
                prefer(shoal.pids().values())
                found = rounds(candidates, count, times, missing)
    costs = {name: Spread.of([load.cpu_us for load in loads]) for name, loads in found.items()}
    rates = {name: Spread.of([load.per_second for load in loads]) for name, loads in found.items()}
    ours = costs.pop("Shoal")
    cost = Measure(
        what="hop: CPU of the proxy a request",
        unit="µs",
        ours=ours,
        peers=costs | missing,
        target=f"at most {TARGET} x bare Envoy",
        met=ours.median <= TARGET * costs["bare Envoy"].median if "bare Envoy" in costs else None,
    )
    rate = ", ".join(f"{name} {spread.median:.0f}" for name, spread in rates.items())
    return Result(name="hop", title="One hop", measures=[cost], notes=[f"requests per second: {rate}"])


def _ports() -> Iterator[int]:
    while True:
        yield free_port()
