"""Five hundred lives a run; a failure names the seed that shows it again."""

from __future__ import annotations

import pytest

from tests.sim.world import simulate

pytestmark = pytest.mark.sim
SEEDS = 500
BATCH = 10


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_invariants_hold_and_the_world_converges(first: int) -> None:
    for seed in range(first, first + BATCH):
        simulate(seed)
