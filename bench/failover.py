"""What becomes of requests when a replica of three is killed, hangs, or all are replaced: Shoal, nginx, HAProxy.

The same app, the same steady load, by turns, so that a disturbance of the machine meets all of them.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import balancers
from bench.apps import temporary_folder
from bench.balancers import DRAIN_S, Balanced, Shoal
from bench.processes import wait_until
from bench.replicas import REPLICAS, RESTART_S, boot_and_stop_s
from bench.result import Measure, Result, Spread
from bench.steady import RATE, SLOW_S, Steady, first_answer_s, lost, slow, slowest_s, troubled_s
from shoal.model.policy import DEFAULT_ROLLOUT

HANG_S = 8.0
AFTER_S = 1.5
"""How long a disturbance is watched, at the least."""
WATCH_S = 0.01
"""Between two looks at a proxy's counters: so exact is the last attempt in vain."""


@dataclass(slots=True)
class Found:
    """Of one of them, over all rounds of one disturbance."""

    lost: int = 0
    slowest_s: list[float] = field(default_factory=list)
    slow: int = 0
    troubled_s: list[float] = field(default_factory=list)
    """To the last request that was sent and came to be lost or slow."""
    vain_s: list[float] = field(default_factory=list)
    """To the last attempt that got no answer from the replica that it was sent to."""
    healed_s: list[float] = field(default_factory=list)
    """To the first answer of the new replica."""
    took_s: list[float] = field(default_factory=list)
    sent: int = 0

    def add(self, load: Steady, since: float) -> None:
        self.lost += lost(load.requests)
        self.sent += len(load.requests)
        self.slow += slow(load.requests)
        self.slowest_s.append(slowest_s(load.requests))
        self.troubled_s.append(troubled_s(load.requests, since))


class Vain:
    """Looks at the counter of attempts in vain from a thread of its own. A context manager."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._changes: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="attempts in vain", daemon=True)

    def __enter__(self) -> Vain:
        self._seen = self._count()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def last_s(self, since: float) -> float:
        """From then to the last one; 0: there was none."""
        return max(0.0, max(self._changes, default=since) - since)

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_S):
            try:
                counted = self._count()
            except (OSError, ValueError):  # too busy to say: the next look finds it
                continue
            if counted != self._seen:
                self._seen = counted
                self._changes.append(time.monotonic())


def run(quick: bool) -> Result:
    """Takes about five minutes; 80 s with `quick`. RuntimeError: Shoal did not come up, or back."""
    kills, hangs, rolls = (2, 1, 1) if quick else (6, 2, 3)
    with temporary_folder() as folder, ExitStack() as stack:
        sides, missing = _sides(stack, folder)
        killed = _by_turns(sides, kills, missing, _kill)
        hung = _by_turns(sides, hangs, missing, _hang)
        rolled = _by_turns(sides, rolls, missing, _roll)
        [ours] = [side for side in sides if isinstance(side, Shoal)]
        deployed = _by_turns([ours], rolls, {}, _deploy)["Shoal"]
        waits = unavoidable(median(boot_and_stop_s(folder / "app" / "server.py", folder) for _ in range(3)))
    return Result(
        name="failover",
        title="Nothing is lost",
        measures=[
            _lost("failover: requests lost in a kill -9", killed, missing),
            _spread("failover: kill -9 to the last attempt in vain", killed, missing, lambda f: f.vain_s),
            _spread(
                "failover: kill -9 to the last request that was lost or slow", killed, missing, lambda f: f.troubled_s
            ),
            _spread("failover: the slowest answer", killed, missing, lambda f: f.slowest_s),
            _healed(killed, missing),
            _lost(f"hang of {HANG_S:g} s: requests lost", hung, missing),
            _slow(f"hang of {HANG_S:g} s: answers over {SLOW_S * 1e3:.0f} ms", hung, missing),
            _spread(
                f"hang of {HANG_S:g} s: to the last request that was lost or slow",
                hung,
                missing,
                lambda f: f.troubled_s,
            ),
            _spread(f"hang of {HANG_S:g} s: the slowest answer", hung, missing, lambda f: f.slowest_s),
            _lost(f"rolling update of {REPLICAS}: requests lost", rolled, missing),
            _against("restart", rolled["Shoal"], waits),
            _against("deploy", deployed, waits),
        ],
        notes=[
            f"{kills} kills, {hangs} hangs and {rolls} updates of each, by turns, under {RATE:g} requests a second "
            f"({killed['Shoal'].sent}, {hung['Shoal'].sent} and {rolled['Shoal'].sent} through Shoal), half GET "
            f"and half POST with Idempotency-Key; slow is over {SLOW_S * 1e3:.0f} ms",
            "who starts a killed replica again: Shoal by itself, with a back-off of "
            f"0.1 s; the others' is started by the bench after {RESTART_S:g} s",
            f"`shoal deploy` lost {deployed.lost} of {deployed.sent}; what cannot be avoided of an update is "
            f"{REPLICAS} x (boot + {DEFAULT_ROLLOUT.min_healthy_s:g} s to be healthy + {DRAIN_S:g} s to drain + stop) "
            f"= {waits:.2f} s",
        ],
    )


def unavoidable(boot_and_stop_s: float) -> float:
    """Seconds of a rolling update, one replica after the other, that no haste saves."""
    return REPLICAS * (boot_and_stop_s + DEFAULT_ROLLOUT.min_healthy_s + DRAIN_S)


def _sides(stack: ExitStack, folder: Path) -> tuple[list[Balanced], dict[str, str]]:
    """All that can run here, Shoal first, and why the others cannot."""
    sides, missing = [stack.enter_context(balancers.shoal(folder))], {}
    for name, (program, start) in balancers.PEERS.items():
        place = folder / program
        place.mkdir()
        if shutil.which(program) is None:
            missing[name] = "not available here"
            continue
        try:
            sides.append(stack.enter_context(start(place)))
        except (RuntimeError, OSError) as error:
            missing[name] = _why(error)
    return sides, missing


def _by_turns(
    sides: list[Balanced], times: int, failed: dict[str, str], disturb: Callable[[Balanced, int, Found], None]
) -> dict[str, Found]:
    """One that fails is left out from then on, and goes to `failed` with the reason; only Shoal may not."""
    found = {side.name: Found() for side in sides if side.name not in failed}
    for turn in range(times):
        for side in sides:
            if side.name not in found:
                continue
            try:
                disturb(side, turn, found[side.name])
            except (RuntimeError, OSError) as error:
                if side.name == "Shoal":
                    raise
                failed[side.name] = _why(error)
                del found[side.name]
    return found


def _kill(side: Balanced, turn: int, found: Found) -> None:
    before = _settled(side)
    victim = before[turn % REPLICAS]
    with Vain(side.vain) as vain, Steady(side.url) as load:
        at = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        side.heal(victim)
        load.wait_for(lambda: len(load.pids() - {victim}) == REPLICAS, "three replicas answer again")
        _watch_until(at + AFTER_S)
    found.add(load, at)
    found.vain_s.append(vain.last_s(at))
    healed = first_answer_s(load.requests, at, before)
    assert healed is not None, "three answered"
    found.healed_s.append(healed)


def _hang(side: Balanced, turn: int, found: Found) -> None:
    victim = _settled(side)[turn % REPLICAS]
    with Steady(side.url) as load:
        at = time.monotonic()
        os.kill(victim, signal.SIGSTOP)
        try:
            _watch_until(at + HANG_S)
        finally:
            with _gone():
                os.kill(victim, signal.SIGCONT)
        _watch_until(at + HANG_S + AFTER_S)
    found.add(load, at)


def _roll(side: Balanced, turn: int, found: Found) -> None:
    _replaced(side, side.roll, found)


def _deploy(side: Balanced, turn: int, found: Found) -> None:
    assert isinstance(side, Shoal)
    _replaced(side, side.deploy, found)


def _replaced(side: Balanced, replace: Callable[[], None], found: Found) -> None:
    before = set(_settled(side))
    with Steady(side.url) as load:
        at = time.monotonic()
        replace()
        found.took_s.append(time.monotonic() - at)
        load.wait_for(lambda: len(load.pids() - before) == REPLICAS, "three new replicas answer")
    found.add(load, at)


def _settled(side: Balanced) -> list[int]:
    """The pids of its replicas, once all three answer."""
    if isinstance(side, Shoal):
        wait_until(side.settled, "Shoal has three replicas")
    pids = side.pids()
    with Steady(side.url) as load:
        load.wait_for(lambda: load.pids() >= set(pids), f"all replicas behind {side.name} answer")
    return pids


def _watch_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))


@contextmanager
def _gone() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        pass


def _why(error: Exception) -> str:
    return f"failed: {(str(error).splitlines() or [type(error).__name__])[0][:100]}"


def _lost(what: str, found: Mapping[str, Found], missing: Mapping[str, str]) -> Measure:
    """Counts of all rounds. What a peer lost is no target: ours is none."""
    counts = {name: Spread.of([float(each.lost)]) for name, each in found.items()}
    ours = counts.pop("Shoal")
    return Measure(what=what, unit="", ours=ours, peers=counts | missing, target="0", met=ours.median == 0)


def _slow(what: str, found: Mapping[str, Found], missing: Mapping[str, str]) -> Measure:
    counts = {name: Spread.of([float(each.slow)]) for name, each in found.items()}
    return Measure(what=what, unit="", ours=counts.pop("Shoal"), peers=counts | missing)


def _spread(
    what: str, found: Mapping[str, Found], missing: Mapping[str, str], values: Callable[[Found], list[float]]
) -> Measure:
    spreads = {name: Spread.of([value * 1e3 for value in values(each)]) for name, each in found.items()}
    ours = spreads.pop("Shoal")
    return Measure(what=what, unit="ms", ours=ours, peers=spreads | missing)


def _healed(found: Mapping[str, Found], missing: Mapping[str, str]) -> Measure:
    """Without ratios: who restarts them is not the same."""
    peers = {
        name: f"{Spread.of(each.healed_s).median * 1e3:.0f} ms, restarted by the bench"
        for name, each in found.items()
        if name != "Shoal"
    }
    ours = Spread.of([value * 1e3 for value in found["Shoal"].healed_s])
    what = "failover: kill -9 to the first answer of its replacement"
    return Measure(what=what, unit="ms", ours=ours, peers=peers | dict(missing))


def _against(command: str, found: Found, waits_s: float) -> Measure:
    ratio = Spread.of([took / waits_s for took in found.took_s])
    return Measure(
        what=f"rolling update of {REPLICAS}: time of `shoal {command}` by what cannot be avoided of it",
        unit="x",
        ours=ratio,
        beside={"seconds": Spread.of(found.took_s)},
    )
