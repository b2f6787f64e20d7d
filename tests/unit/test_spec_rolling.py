"""`rollout:` in the app file."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.model.policy import DEFAULT_ROLLOUT, RolloutPolicy
from shoal.spec.load import load_text
from shoal.spec.problems import SpecError


def policy(text: str, defaults: str = "") -> RolloutPolicy:
    whole = f"{defaults}\nservices: {{web: {{run: 'web:app', port: 8080{text}}}}}\n"
    return load_text(whole.encode(), "shoal.yaml", Path("/app"), {}, "host").service("web").rollout


def test_the_defaults_lose_nothing() -> None:
    assert policy("") == DEFAULT_ROLLOUT == RolloutPolicy(surge=1, unavailable=0)


def test_every_setting_comes_through() -> None:
    written = ", rollout: {surge: 3, unavailable: 1, min_healthy: 500ms, deadline: 10m, rollback: off}"
    assert policy(written) == RolloutPolicy(surge=3, unavailable=1, min_healthy_s=0.5, deadline_s=600.0, rollback=False)


def test_defaults_count_for_services_that_say_nothing() -> None:
    assert policy("", "defaults: {rollout: {surge: 2}}").surge == 2
    assert policy(", rollout: {unavailable: 1}", "defaults: {rollout: {surge: 2}}").surge == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{surge: 0}", "no replica can ever be replaced"),
        ("{surge: many}", "must be a number of replicas"),
        ("{deadline: soon}", "must be a time"),
        ("{rollback: never}", "must be auto or off"),
        ("{max_surge: 1}", "unknown key"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        policy(f", rollout: {text}")
    [problem] = caught.value.problems
    assert words in problem.message and problem.line == 2
