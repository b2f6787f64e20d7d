"""Rules for all tests: hypothesis draws the same examples everywhere, and no test leaves a child process behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.port import release_ports
from tests.support.processes import children, until

# A slow machine is no reason to fail, and a red build must be red again when it is run again. To look for new examples:
# HYPOTHESIS_PROFILE=explore make test
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# Tests run in containers too: none writes names into the /etc/hosts of all but those that make one of their own.
os.environ["SHOAL_HOSTS"] = "keep"


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Fails the test that started a process and did not wait for its end. Those of wider fixtures are there before."""
    before = set(children())
    yield
    if children().keys() - before:
        until(lambda: not (children().keys() - before), f"the end of {children()}", within_s=5)


@pytest.fixture(autouse=True, scope="session")
def ports_are_given_back() -> Iterator[None]:
    yield
    release_ports()
