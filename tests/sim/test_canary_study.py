"""The judge's rates of false verdicts, as they are published."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from shoal.model.verdict import Verdict
from tests.sim.canary_study import SHAPES, canary, page, rates, study

pytestmark = pytest.mark.sim
PAGE = Path(__file__).parents[2] / "docs" / "canary-study.md"


def test_fewer_than_a_twentieth_of_all_verdicts_are_false_and_the_published_ones_are_these() -> None:
    found = study()
    for shape in SHAPES:
        wrong = Verdict.FAIL if shape.good else Verdict.PASS
        assert found[shape.name][wrong] / found[shape.name].total() < 0.05, shape
    assert max(rates(found)) < 0.05
    assert PAGE.read_text() == page(found), "python -m tests.sim.canary_study > docs/canary-study.md"


def test_at_twenty_requests_every_canary_is_inconclusive() -> None:

    rng = random.Random(7)
    for shape in SHAPES:
        assert {canary(shape, rng, requests=20) for _ in range(20)} == {Verdict.INCONCLUSIVE}, shape
