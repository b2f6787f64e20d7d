"""The judge of new revisions, and the statistics that it stands on."""

from __future__ import annotations

from math import comb, exp, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.model.signals import LATENCY_BOUNDS_MS, NO_LATENCIES, Traffic, since
from shoal.model.verdict import Verdict
from shoal.planner.canary import OBVIOUS, judge, look_at
from shoal.signals.histograms import lag, lag_chance, lag_doubt, moved, quantile
from shoal.signals.proportions import binomial_greater, excess_upper, fisher_greater


def traffic(revision: int, requests: int, errors: int = 0, ms: float = 20.0) -> Traffic:
    """All answers in one bucket."""
    latency = list(NO_LATENCIES)
    latency[next(i for i, bound in enumerate(LATENCY_BOUNDS_MS) if ms <= bound)] = requests
    return Traffic(service="web", revision=revision, requests=requests, errors=errors, latency=tuple(latency))


# --- the statistics, against values that others published or that integers give exactly


def test_fisher_gives_the_tea_tasters_chance() -> None:
    assert fisher_greater(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert fisher_greater(4, 4, 0, 4) == pytest.approx(1 / 70)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 40), st.integers(1, 40))
def test_fisher_agrees_with_whole_numbers(failed: int, before: int, more: int, more_before: int) -> None:
    of, of_before = failed + more, before + more_before
    failures, total = failed + before, of + of_before
    ways = sum(comb(of, k) * comb(of_before, failures - k) for k in range(failed, min(of, failures) + 1))
    assert fisher_greater(failed, of, before, of_before) == pytest.approx(ways / comb(total, failures), rel=1e-9)


@given(st.integers(0, 30), st.integers(1, 30))
def test_the_binomial_tail_agrees_with_its_sum(failed: int, more: int) -> None:
    of = failed + more
    tail = sum(comb(of, k) * 0.05**k * 0.95 ** (of - k) for k in range(failed, of + 1))
    assert binomial_greater(failed, of, 0.05) == pytest.approx(tail, rel=1e-9)


def test_the_confidence_limit_is_newcombes() -> None:
    # R. G. Newcombe (1998), table II, method 10, examples (a), (b) and (h).
    assert excess_upper(56, 70, 48, 80, 0.025) == pytest.approx(0.3339, abs=5e-5)
    assert excess_upper(9, 10, 3, 10, 0.025) == pytest.approx(0.8090, abs=5e-5)
    assert excess_upper(10, 10, 0, 10, 0.025) == pytest.approx(1.0, abs=5e-5)
    assert excess_upper(0, 100, 0, 900, 0.05) > 0.02, "a hundred good answers do not prove that nothing fails"


def test_the_lag_is_the_greatest_distance_to_the_right() -> None:
    assert lag([0, 2, 2], [2, 2, 0]) == pytest.approx(0.5)
    assert lag([2, 2, 0], [0, 2, 2]) == 0.0, "what is faster does not lag"
    assert lag([], []) == 0.0
    assert lag_chance(0.5, 20, 20) == pytest.approx(exp(-2 * 0.25 * 10))
    assert lag_chance(lag_doubt(300, 700, 0.01), 300, 700) == pytest.approx(0.01)
    assert (lag_chance(1.0, 0, 9), lag_doubt(0, 9, 0.1)) == (1.0, inf)


def test_moving_a_histogram_keeps_its_counts_and_goes_by_the_greater_of_both() -> None:
    bounds = (1.0, 2.0, 4.0, 8.0)
    assert moved([1, 1, 1, 1, 1], bounds, 2.0, 0.0) == [0, 1, 1, 1, 2]
    assert moved([1, 1, 1, 1, 1], bounds, 1.0, 3.0) == [0, 0, 1, 2, 2]


def test_a_quantile_is_a_buckets_upper_bound() -> None:
    assert quantile([1, 1, 2], (5.0, 10.0), 0.5) == 10.0
    assert quantile([0, 0, 2], (5.0, 10.0), 0.5) == inf
    assert quantile([0, 0, 0], (5.0, 10.0), 0.5) is None


# --- counters


def test_what_was_counted_since_is_the_difference_and_all_after_a_restart_of_envoy() -> None:
    start, now = traffic(1, 100, 5), traffic(1, 130, 6)
    assert since(now, start) == traffic(1, 30, 1)
    assert since(now, None) == now
    assert since(start, now) == start, "lower than before: it began anew"
    slower = traffic(1, 130, 6, ms=80)
    assert since(slower, start).latency == slower.latency, "of a histogram that began anew, all is new"


# --- the judge


def test_looks_are_few_and_far_between() -> None:
    assert [look_at(number) for number in range(1, 8)] == [30, 100, 300, 1000, 3000, 10000, 30000]


def test_nothing_passes_on_no_data_or_on_twenty_requests() -> None:
    for requests in (0, 1, 20):
        for errors in {0, requests // 2, requests}:
            found = judge(traffic(2, requests, errors), traffic(1, requests), look=1)
            assert found.verdict is Verdict.INCONCLUSIVE, found
    assert judge(traffic(2, 0), traffic(1, 5000), look=1).words == (
        "revision 2 answered 0 requests, too few: it takes 100 at least"
    )


def test_it_says_what_failed_with_its_numbers() -> None:
    found = judge(traffic(4, 1012, 31), traffic(3, 9120, 18), look=4)
    assert found.verdict is Verdict.FAIL
    assert found.words == "revision 4 failed 3.1 % of 1,012 requests, revision 3 0.20 % of 9,120 (p < 0.0001)"


def test_it_says_what_became_slower() -> None:
    found = judge(traffic(4, 1000, ms=200), traffic(3, 1000, ms=20), look=4)
    assert found.verdict is Verdict.FAIL
    assert found.words == (
        "revision 4 answers within 200 ms (95 %: 200 ms), revision 3 within 20 ms (95 %: 20 ms): "
        "at least 100 % of its answers are slower by more than 1.25 times and 2 ms (p < 0.0001)"
    )


def test_a_difference_that_is_sure_and_small_is_no_fault() -> None:
    found = judge(traffic(2, 1_000_000, 1300), traffic(1, 1_000_000, 1000), look=9)
    assert found.verdict is Verdict.PASS
    assert judge(traffic(2, 100_000, ms=25), traffic(1, 100_000, ms=20), look=7).verdict is Verdict.PASS
    assert judge(traffic(2, 100_000, ms=2), traffic(1, 100_000, ms=0.5), look=7).verdict is Verdict.PASS


def test_a_good_one_passes_once_there_is_enough_and_not_before() -> None:
    found = [judge(traffic(2, n), traffic(1, 9 * n), look=k).verdict for k, n in ((1, 30), (2, 100), (3, 300))]
    assert found == [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE]
    passed = judge(traffic(2, 1000), traffic(1, 9000), look=4)
    assert passed.verdict is Verdict.PASS
    assert passed.words.startswith(
        "revision 2 failed 0 % of 1,000 requests, revision 1 0 % of 9,000; revision 2 answers"
    )
    assert judge(traffic(2, 1000), traffic(1, 9000), look=4, samples_min=2000).verdict is Verdict.INCONCLUSIVE


def test_without_old_traffic_only_what_is_bad_by_itself_fails() -> None:
    good, bad = traffic(2, 1000, 10), traffic(2, 1000, 300)
    assert judge(good, traffic(1, 0), look=4).verdict is Verdict.INCONCLUSIVE
    found = judge(bad, traffic(1, 0), look=4)
    assert found.verdict is Verdict.FAIL
    assert found.words == (
        "revision 2 failed 30 % of 1,000 requests, more than 5.0 % (p < 0.0001); "
        "there is no older revision's traffic to compare with"
    )


def test_a_new_revision_that_mends_a_broken_one_passes() -> None:
    assert judge(traffic(2, 1000, 0), traffic(1, 9000, 4500), look=4).verdict is Verdict.PASS


def test_a_rolling_update_fails_for_the_obvious_alone() -> None:
    def rolled(new: Traffic) -> Verdict:
        return judge(new, traffic(1, 300, 1), look=2, tolerance=OBVIOUS).verdict

    assert rolled(traffic(2, 100, 100)) is Verdict.FAIL
    assert rolled(traffic(2, 100, ms=200)) is Verdict.FAIL
    assert rolled(traffic(2, 100, ms=50)) is not Verdict.FAIL, "cold caches"
    assert rolled(traffic(2, 100, 3)) is not Verdict.FAIL


def test_no_answer_at_all_is_a_failure_without_a_time() -> None:
    new = Traffic(service="web", revision=2, requests=100, errors=100)
    assert judge(new, traffic(1, 900), look=2).verdict is Verdict.FAIL
