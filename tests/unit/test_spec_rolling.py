"""`rollout:` in the app file."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.model.policy import DEFAULT_ROLLOUT, CanaryPolicy, RolloutPolicy, Strategy
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
        ("{strategy: blue-green}", "must be rolling or canary"),
        ("{steps: [50%, 10%]}", "must be growing percentages below 100%"),
        ("{steps: [100%]}", "must be growing percentages below 100%"),
        ("{steps: []}", "must be growing percentages below 100%"),
        ("{step_requests: 3}", "must be a number of requests, 30 to"),
        ("{max_surge: 1}", "unknown key"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        policy(f", rollout: {text}")
    [problem] = caught.value.problems
    assert words in problem.message and problem.line == 2


CANARY = "{strategy: canary, steps: [5%, 25], step_requests: 200, step_wait: 1m, step_wait_max: 1h, promote: off}"


def test_a_canary_comes_through_of_the_service_or_of_defaults() -> None:
    tried = CanaryPolicy(percents=(5.0, 25.0), samples_min=200, wait_s=60.0, wait_s_max=3600.0, auto=False)
    expected = RolloutPolicy(strategy=Strategy.CANARY, canary=tried)
    assert policy(f", rollout: {CANARY}") == policy("", f"defaults: {{rollout: {CANARY}}}") == expected


def test_a_canary_of_defaults_passes_by_those_without_requests() -> None:
    text = "defaults: {rollout: {strategy: canary}}\nservices: {worker: {command: [sleep, '9']}}\n"
    assert load_text(text.encode(), "shoal.yaml", Path("/app"), {}, "host").service("worker").port is None


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ("command: [sleep, '9']", "has no requests to share"),
        ("command: [cat], port: 9000, protocol: tcp", "speaks TCP cannot be judged"),
    ],
)
def test_a_service_without_requests_has_no_canary(service: str, words: str) -> None:
    text = f"services:\n  web: {{{service},\n    rollout: {{strategy: canary}}}}\n"
    with pytest.raises(SpecError) as caught:
        load_text(text.encode(), "shoal.yaml", Path("/app"), {}, "host")
    [problem] = caught.value.problems
    assert words in problem.message and problem.line == 3
