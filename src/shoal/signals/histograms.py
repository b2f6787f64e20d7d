"""Is one distribution, known by its histogram, further to the right than another?

The buckets are the same for both: `counts[i]` values lie in the bucket that ends at `bounds[i]`, the last count lies
beyond all bounds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import exp, inf, log, sqrt


def moved(counts: Sequence[int], bounds: Sequence[float], factor: float, more: float) -> list[int]:
    """The histogram as it would be if each value were `factor` times as great, or greater by `more`, whichever is more:
    each bucket's count goes to the bucket in which its upper bound then lies. `factor` >= 1, `more` >= 0."""
    there = [0] * len(counts)
    for index, count in enumerate(counts):
        if index == len(bounds):
            there[index] += count
        else:
            # The last digit of a product must not decide about a bucket.
            ends = max(bounds[index] * factor, bounds[index] + more) * (1 - 1e-9)
            there[bisect_left(bounds, ends)] += count
    return there


def lag(counts: Sequence[int], before: Sequence[int]) -> float:
    """The greatest part of all values, 0 to 1, that are above some bound now and were not before: the one-sided
    Kolmogorov-Smirnov statistic. 0 when either is empty, or nothing is further to the right."""
    total, total_before = sum(counts), sum(before)
    if total == 0 or total_before == 0:
        return 0.0
    pairs = zip(accumulate(counts), accumulate(before), strict=True)
    return max(0.0, *(cumulated_before / total_before - cumulated / total for cumulated, cumulated_before in pairs))


def lag_chance(value: float, of: int, of_before: int) -> float:
    """How likely so great a lag is between two samples of one distribution. 1.0 when a sample is empty.

    Smirnov's limit exp(-2 D^2 nm/(n+m)) (N. V. Smirnov, Ann. Math. Statist. 19 (1948) 279-281): too great for small
    samples and for values in buckets, so that it errs on the safe side.
    """
    if of == 0 or of_before == 0:
        return 1.0
    return exp(-2 * value * value * of * of_before / (of + of_before))


def lag_doubt(of: int, of_before: int, doubt: float) -> float:
    """By how much the true lag may be greater than the seen one, with a probability of `doubt` at most: the same limit,
    solved for D. `inf` when a sample is empty."""
    if of == 0 or of_before == 0:
        return inf
    return sqrt(-log(doubt) / 2 * (of + of_before) / (of * of_before))


def quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """The upper bound of the bucket in which the value lies that `share` of all do not exceed; `inf` beyond the last
    one, None of nothing."""
    total = sum(counts)
    if total == 0:
        return None
    for index, cumulated in enumerate(accumulate(counts)):
        if cumulated >= share * total:
            return bounds[index] if index < len(bounds) else inf
    return inf
