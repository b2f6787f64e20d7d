"""Traffic policies as hypothesis draws them: whatever an app file may say."""

from __future__ import annotations

from hypothesis import strategies as st

from shoal.model.traffic import Balance, Breaker, Choice, Fault, Limit, Outlier, Policy, RetryBudget

times = st.sampled_from((0.0, 0.05, 1.5, 15.0, 400.0, 7200.0))
counts = st.integers(0, 5000)
balances = st.one_of(
    st.sampled_from([Balance(choice=c) for c in Choice if c is not Choice.RING_HASH]),
    st.builds(Balance, choice=st.just(Choice.RING_HASH), header=st.just("x-user")),
    st.builds(Balance, choice=st.just(Choice.RING_HASH), cookie=st.just("c"), ttl_s=times),
)
maybe = st.none()
any_policies = st.builds(
    Policy,
    timeout_s=maybe | times,
    per_try_timeout_s=maybe | times,
    retries=maybe | st.integers(0, 10),
    retry_budget=maybe | st.builds(RetryBudget, percent=maybe | st.floats(1, 100), floor=maybe | st.integers(1, 99)),
    outlier=maybe
    | st.builds(
        Outlier, errors=maybe | st.integers(0, 9), ejection_s=maybe | st.just(2.5), percent=maybe | st.integers(1, 100)
    ),
    breaker=maybe | st.builds(Breaker, connections=maybe | counts, pending=maybe | counts, requests=maybe | counts),
    limit=maybe
    | st.builds(Limit, requests=counts, per_s=st.sampled_from((1.0, 60.0, 3600.0)), burst=maybe | st.integers(1, 50)),
    balance=maybe | balances,
    fault=maybe | st.builds(Fault, delay_s=times, abort=st.sampled_from((0, 503)), percent=st.floats(0, 100)),
)
