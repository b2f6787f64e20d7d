"""Is one share (of failed requests) greater than another, and by how much at most?"""

from __future__ import annotations

from math import exp, lgamma, log, sqrt
from statistics import NormalDist


def fisher_greater(failed: int, of: int, failed_before: int, of_before: int) -> float:
    """The one-sided p-value of Fisher's exact test: how likely it is that the first group has at least as many failures
    as it has, were all failures dealt out among both groups by chance. 1.0 when a group is empty.

    The upper tail of the hypergeometric distribution; R. A. Fisher, The Design of Experiments (1935), section 21.
    Exact also where the normal approximation is not: a handful of failures among a thousand requests.
    """
    if of == 0 or of_before == 0:
        return 1.0
    failures, total = failed + failed_before, of + of_before
    most = min(of, failures)
    ways = _log_choose(total, failures)
    term = exp(_log_choose(of, failed) + _log_choose(of_before, failures - failed) - ways)
    whole = term
    for count in range(failed, most):
        term *= (of - count) * (failures - count) / ((count + 1) * (of_before - failures + count + 1))
        whole += term
        if term < whole * 1e-12:
            break
    return min(1.0, whole)


def binomial_greater(failed: int, of: int, rate: float) -> float:
    """How likely at least so many failures are when each request fails with `rate`, 0 < rate < 1. The exact binomial
    tail."""
    if failed <= 0:
        return 1.0
    term = exp(_log_choose(of, failed) + failed * log(rate) + (of - failed) * log(1 - rate))
    whole = term
    for count in range(failed, of):
        term *= (of - count) / (count + 1) * rate / (1 - rate)
        whole += term
        if term < whole * 1e-12 and count > of * rate:
            break
    return min(1.0, whole)


def excess_upper(failed: int, of: int, failed_before: int, of_before: int, doubt: float) -> float:
    """The upper one-sided confidence limit of how much greater the first share is: the truth is above it with a
    probability of about `doubt`, 0 < doubt < 0.5. 1.0 when a group is empty.

    Newcombe's hybrid of Wilson's score intervals: R. G. Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10.
    It stays honest where nothing failed at all.
    """
    if of == 0 or of_before == 0:
        return 1.0
    z = NormalDist().inv_cdf(1 - doubt)
    share, before = failed / of, failed_before / of_before
    upper = _wilson(failed, of, z)
    lower_before = 1 - _wilson(of_before - failed_before, of_before, z)
    return share - before + sqrt((upper - share) ** 2 + (before - lower_before) ** 2)


def _wilson(failed: int, of: int, z: float) -> float:
    """The upper limit of a share: E. B. Wilson, JASA 22 (1927) 209-212."""
    share = failed / of
    middle = share + z * z / (2 * of)
    around = z * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return min(1.0, (middle + around) / (1 + z * z / of))


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
