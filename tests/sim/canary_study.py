"""The canary study: how often is the judge wrong? `python -m tests.sim.canary_study` prints docs/canary-study.md.

200 good and 200 bad canaries of each shape answer 1,000 requests each, beside as many of the old revision, and are
judged at the judge's own looks; the first pass or fail stands, as in a rollout. All are drawn from one seed.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from math import log
from statistics import NormalDist

from shoal.model.signals import LATENCY_BOUNDS_MS, NO_LATENCIES, Traffic
from shoal.model.verdict import Verdict
from shoal.planner.canary import judge, look_at

CANARIES = 200
REQUESTS = 1000
SEED = 1

Spread = tuple[float, ...]
"""What part of the answers lies in each bucket of `LATENCY_BOUNDS_MS`, and beyond."""


@dataclass(frozen=True)
class Side:
    """How a revision behaves."""

    errors: float
    latency: Spread


@dataclass(frozen=True)
class Shape:
    name: str
    old: Side
    new: Side
    good: bool


def lognormal(median_ms: float, sigma: float) -> Spread:
    below = [NormalDist(log(median_ms), sigma).cdf(log(bound)) for bound in LATENCY_BOUNDS_MS]
    return tuple(upper - lower for lower, upper in pairwise([0.0, *below, 1.0]))


def either(share: float, first: Spread, second: Spread) -> Spread:
    return tuple(share * a + (1 - share) * b for a, b in zip(first, second, strict=True))


USUAL = lognormal(20, 0.5)
CACHED = either(0.7, lognormal(4, 0.3), lognormal(80, 0.4))

SHAPES = (
    Shape("as before, 0.1 % errors", Side(0.001, USUAL), Side(0.001, USUAL), True),
    Shape("as before, 1 % errors", Side(0.01, USUAL), Side(0.01, USUAL), True),
    Shape("as before, 5 % errors", Side(0.05, USUAL), Side(0.05, USUAL), True),
    Shape("3 % slower", Side(0.001, USUAL), Side(0.001, lognormal(20.6, 0.5)), True),
    Shape("3 % slower, all answers nearly alike", Side(0, lognormal(49, 0.02)), Side(0, lognormal(50.5, 0.02)), True),
    Shape("two humps (cache hits and misses), as before", Side(0.001, CACHED), Side(0.001, CACHED), True),
    Shape("times spread widely, as before", Side(0.001, lognormal(20, 1.0)), Side(0.001, lognormal(20, 1.0)), True),
    Shape("errors 0.1 % -> 2 %", Side(0.001, USUAL), Side(0.02, USUAL), False),
    Shape("errors 1 % -> 5 %", Side(0.01, USUAL), Side(0.05, USUAL), False),
    Shape("twice as slow", Side(0.001, USUAL), Side(0.001, lognormal(40, 0.5)), False),
    Shape("twice as slow, times spread widely", Side(0, lognormal(20, 1.0)), Side(0, lognormal(40, 1.0)), False),
    Shape("ten times as slow", Side(0.001, USUAL), Side(0.001, lognormal(200, 0.5)), False),
    Shape(
        "a fifth of the answers ten times as slow",
        Side(0, USUAL),
        Side(0, either(0.2, lognormal(200, 0.5), USUAL)),
        False,
    ),
    Shape("two humps, the cache is lost", Side(0.001, CACHED), Side(0.001, lognormal(80, 0.4)), False),
)


class Answering:
    """One revision's counters, as they grow."""

    def __init__(self, revision: int, side: Side, rng: random.Random) -> None:
        self._revision, self._side, self._rng = revision, side, rng
        self._requests = self._errors = 0
        self._latency = list(NO_LATENCIES)

    def grow(self, requests: int) -> Traffic:
        """Up to so many in all."""
        more = requests - self._requests
        for bucket in self._rng.choices(range(len(NO_LATENCIES)), self._side.latency, k=more):
            self._latency[bucket] += 1
        self._errors += sum(self._rng.random() < self._side.errors for _ in range(more))
        self._requests = requests
        return Traffic(
            service="web",
            revision=self._revision,
            requests=requests,
            errors=self._errors,
            latency=tuple(self._latency),
        )


def canary(shape: Shape, rng: random.Random, requests: int = REQUESTS, old_share: float = 1.0) -> Verdict:
    """One canary's life: the first pass or fail, or inconclusive once all requests are used up."""
    new, old = Answering(2, shape.new, rng), Answering(1, shape.old, rng)
    look = 1
    while look_at(look) <= requests:
        count = look_at(look)
        verdict = judge(new.grow(count), old.grow(round(count * old_share)), look=look).verdict
        if verdict is not Verdict.INCONCLUSIVE:
            return verdict
        look += 1
    return judge(new.grow(requests), old.grow(round(requests * old_share)), look=look).verdict


def study(canaries: int = CANARIES, seed: int = SEED) -> dict[str, Counter[Verdict]]:
    rng = random.Random(seed)
    return {shape.name: Counter(canary(shape, rng) for _ in range(canaries)) for shape in SHAPES}


def rates(found: dict[str, Counter[Verdict]]) -> tuple[float, float]:
    """(good canaries that failed, bad canaries that passed), of all good and of all bad ones, 0 to 1."""
    wrong = {True: Verdict.FAIL, False: Verdict.PASS}
    shares = []
    for good in (True, False):
        counts = [found[shape.name] for shape in SHAPES if shape.good is good]
        shares.append(sum(count[wrong[good]] for count in counts) / sum(count.total() for count in counts))
    return shares[0], shares[1]


def page(found: dict[str, Counter[Verdict]]) -> str:
    failed, passed = rates(found)
    lines = [
        "# The canary study",
        "",
        "<!-- Written by `python -m tests.sim.canary_study`. -->",
        "",
        f"{CANARIES} canaries of each shape, {REQUESTS:,} requests each, beside as many of the old revision, judged as",
        "a rollout judges them: at 30, 100, 300 and 1,000 requests; the first pass or fail stands.",
        "",
        f"**Good canaries that failed: {failed:.1%}. Bad canaries that passed: {passed:.1%}.**",
        "",
        "| the new revision | is | pass | fail | inconclusive |",
        "|---|---|---:|---:|---:|",
    ]
    for shape in SHAPES:
        count = found[shape.name]
        numbers = " | ".join(
            f"{count[v] / count.total():.1%}" for v in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
        )
        lines.append(f"| {shape.name} | {'good' if shape.good else 'bad'} | {numbers} |")
    lines += [
        "",
        "Inconclusive is no verdict: the canary keeps its share of the requests until more of them decide, or a person",
        "does. At 20 requests every canary is inconclusive: the first look is at 30, and nothing passes before 100.",
    ]
    return "\n".join(lines).replace("%", " %").replace("  %", " %") + "\n"


if __name__ == "__main__":
    print(page(study()), end="")
