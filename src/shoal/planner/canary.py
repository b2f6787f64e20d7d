"""Is the new revision worse than the old one? Judged by what both answered in the same time.

Errors by Fisher's exact test, latencies by a one-sided Kolmogorov-Smirnov test against the old ones moved by what is
tolerated; a pass needs the opposite proof, by confidence limits: that it is not much worse. What is neither is
inconclusive, and more requests decide it.

Looking again and again finds a difference in the end where there is none. So there are few looks, at fixed numbers of
requests (30, 100, 300, 1000, ...), and look k of a rollout may err with ALPHA / (k (k + 1)): over all looks, however
many, that adds up to ALPHA for a good revision that fails, and as much for a bad one that passes.
"""

from __future__ import annotations

from math import inf

from shoal.model.signals import LATENCY_BOUNDS_MS, Traffic
from shoal.model.verdict import Judgement, Tolerance, Verdict
from shoal.signals.histograms import lag, lag_chance, lag_doubt, moved, quantile
from shoal.signals.proportions import binomial_greater, excess_upper, fisher_greater

ALPHA = 0.05
"""Chance of a false verdict of either kind over all looks of a rollout. A good revision may fail by its errors or by
its latencies, so each has half of it; a bad one must pass both, so each has all of it."""
SAMPLES_MIN = 100
"""Requests of the new revision without which nothing passes. Before that it can only fail."""
FEWEST = 30
"""Requests of the new revision without which it does not even fail."""
COMPARED_MIN = 30
"""Requests of the old revision without which there is nothing to compare with."""
CANARY = Tolerance(errors=0.005, errors_relative=0.25, slower=1.25, slower_ms=2.0)
OBVIOUS = Tolerance(errors=0.05, errors_relative=0.25, slower=3.0, slower_ms=5.0)
"""For a rolling update, which nobody asked to judge closely: cold caches are no fault."""

ERRORS_MAX = 0.018
"""Passes when surely fewer of all requests fail in addition..."""
ERRORS_MAX_RELATIVE = 0.5
"""...than this, or than this much of what failed before; the greater of both."""
LAGGING_MAX = 0.15
"""Passes when surely fewer of the answers are slower than tolerated."""
ERRORS_ALONE = 0.05
"""Without anything to compare with: what surely fails more requests than this is bad."""


def look_at(number: int) -> int:
    """How many requests the new revision must have answered for this look, counted from 1: 30, 100, 300, 1000, ...
    Look 0, at 10, is for the obvious alone."""
    decade: int = 10 ** ((number + 1) // 2)
    return (3 if number % 2 else 10) * decade


def judge(
    new: Traffic,
    old: Traffic,
    *,
    look: int,
    samples_min: int = SAMPLES_MIN,
    tolerance: Tolerance = CANARY,
    fewest: int = FEWEST,
) -> Judgement:
    """`new`, `old`: what both revisions answered in the same time. `look`: how often this rollout has been judged with
    this time, at least 1; the caller looks when `look_at` says so, and not in between. `fewest`: requests without
    which nothing is said."""
    risk = ALPHA / (look * (look + 1))
    if new.requests < fewest:
        return _too_few(new, samples_min)
    if old.requests < COMPARED_MIN:
        return _alone(new, old, risk)
    return (
        _failing(new, old, risk / 2, tolerance)
        or _slower(new, old, risk / 2, tolerance)
        or _not_sure(new, old, risk, samples_min, tolerance)
        or Judgement(
            verdict=Verdict.PASS, words=f"{_errors(new, old)}; {_times(new, old)}: not worse, within what is tolerated"
        )
    )


def _alone(new: Traffic, old: Traffic, risk: float) -> Judgement:
    chance = binomial_greater(new.errors, new.requests, ERRORS_ALONE)
    if new.requests and chance < risk:
        words = (
            f"revision {new.revision} failed {_percent(new)} of {new.requests:,} requests, more than "
            f"{_share(ERRORS_ALONE)} (p {_chance(chance)}); there is no older revision's traffic to compare with"
        )
        return Judgement(verdict=Verdict.FAIL, words=words)
    words = f"revision {old.revision} answered {old.requests:,} requests in this time: too few to compare with"
    return Judgement(verdict=Verdict.INCONCLUSIVE, words=words)


def _failing(new: Traffic, old: Traffic, risk: float, tolerance: Tolerance) -> Judgement | None:
    before = old.errors / old.requests
    excess = new.errors / max(1, new.requests) - before
    chance = fisher_greater(new.errors, new.requests, old.errors, old.requests)
    if chance >= risk or excess <= max(tolerance.errors, tolerance.errors_relative * before):
        return None
    return Judgement(verdict=Verdict.FAIL, words=f"{_errors(new, old)} (p {_chance(chance)})")


def _slower(new: Traffic, old: Traffic, risk: float, tolerance: Tolerance) -> Judgement | None:
    part, of, of_before = _lagging(new, old, tolerance)
    chance = lag_chance(part, of, of_before)
    if chance >= risk:
        return None
    allowed = f"{tolerance.slower:g} times and {tolerance.slower_ms:g} ms"
    words = f"{_times(new, old)}: at least {_share(part)} of its answers are slower by more than {allowed}"
    return Judgement(verdict=Verdict.FAIL, words=f"{words} (p {_chance(chance)})")


def _not_sure(new: Traffic, old: Traffic, risk: float, samples_min: int, tolerance: Tolerance) -> Judgement | None:
    if new.requests < samples_min:
        return _too_few(new, samples_min)
    upper = excess_upper(new.errors, new.requests, old.errors, old.requests, risk)
    bearable = max(ERRORS_MAX, ERRORS_MAX_RELATIVE * old.errors / old.requests)
    if upper >= bearable:
        words = (
            f"{_errors(new, old)}: it may still be up to {_share(upper)} more, "
            f"and passes when that is below {_share(bearable)}"
        )
        return Judgement(verdict=Verdict.INCONCLUSIVE, words=words)
    part, of, of_before = _lagging(new, old, tolerance)
    upper = part + lag_doubt(of, of_before, risk)
    if upper >= LAGGING_MAX:
        words = (
            f"{_times(new, old)}: up to {_share(min(1.0, upper))} of its answers may be slower, "
            f"and it passes when that is below {_share(LAGGING_MAX)}"
        )
        return Judgement(verdict=Verdict.INCONCLUSIVE, words=words)
    return None


def _too_few(new: Traffic, samples_min: int) -> Judgement:
    words = f"revision {new.revision} answered {new.requests:,} requests, too few: it takes {samples_min:,} at least"
    return Judgement(verdict=Verdict.INCONCLUSIVE, words=words)


def _lagging(new: Traffic, old: Traffic, tolerance: Tolerance) -> tuple[float, int, int]:
    """What part of the answers is slower than tolerated, and the sizes of both samples."""
    allowed = moved(old.latency, LATENCY_BOUNDS_MS, tolerance.slower, tolerance.slower_ms)
    return lag(new.latency, allowed), sum(new.latency), sum(old.latency)


def _errors(new: Traffic, old: Traffic) -> str:
    return (
        f"revision {new.revision} failed {_percent(new)} of {new.requests:,} requests, "
        f"revision {old.revision} {_percent(old)} of {old.requests:,}"
    )


def _times(new: Traffic, old: Traffic) -> str:
    return (
        f"revision {new.revision} answers within {_ms(new, 0.5)} (95 %: {_ms(new, 0.95)}), "
        f"revision {old.revision} within {_ms(old, 0.5)} (95 %: {_ms(old, 0.95)})"
    )


def _percent(traffic: Traffic) -> str:
    return _share(traffic.errors / max(1, traffic.requests))


def _share(part: float) -> str:
    """`3.1 %`, `0.02 %`, `97 %`: two digits that say something."""
    percent = part * 100
    digits = 0 if percent >= 10 or percent == 0 else 1 if percent >= 1 else 2
    return f"{percent:.{digits}f} %"


def _ms(traffic: Traffic, part: float) -> str:
    value = quantile(traffic.latency, LATENCY_BOUNDS_MS, part)
    if value is None:
        return "no time known"
    return f"more than {LATENCY_BOUNDS_MS[-1] / 1000:g} s" if value == inf else f"{value:g} ms"


def _chance(chance: float) -> str:
    return "< 0.0001" if chance < 0.0001 else f"= {chance:.4f}"
