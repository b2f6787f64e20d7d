"""uv's words, for people."""

from __future__ import annotations

import pytest

from shoal.engines.local import uv

NO_SOLUTION = [
    "Using Python 3.11.7 environment at: /app/.shoal/envs/1",
    "error: No solution found when resolving dependencies",
    "",
    "  cause: Because there is no version of click==99.1 and you require click==99.1, we can conclude that",
]


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        ("Resolved 14 packages in 71ms", "installing 14 packages"),
        ("Resolved 1 package in 1ms", "installing 1 package"),
        ("Downloading numpy (16.1MiB)", "downloading numpy (16.1MiB)"),
        ("   Building shop @ file:///srv/shop", "building shop"),
        (" + granian==2.8.7", ""),
        ("Installed 14 packages in 4ms", ""),
    ],
)
def test_progress_is_told_in_words(line: str, progress: str) -> None:
    assert uv.progress_of(line) == progress


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (NO_SOLUTION, "Because there is no version of click==99.1 and you require click==99.1, we can conclude that"),
        (["error: Failed to build `x`", "  Caused by: gcc failed", "hint: install gcc"], "gcc failed"),
        (
            ["  \u00d7 No solution found when resolving", "  ╰─▶ Because idna was not found"],
            "Because idna was not found",
        ),
        (["something else", ""], "something else"),
        ([], "uv failed"),
    ],
)
def test_the_reason_is_the_last_cause(lines: list[str], reason: str) -> None:
    assert uv.reason_of(lines) == reason


def test_addresses_and_what_is_in_them_are_never_shown() -> None:
    line = "error: Request failed after 3 retries for (https://user:secret@example.test/simple/idna/): 401"
    shown = uv.redact(line)
    assert "secret" not in shown
    assert "example.test" not in shown
    assert shown.startswith("error: Request failed after 3 retries for ([address]")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("No solution found when resolving dependencies", "requirement"),
        ("dns error: failed to lookup address information", "network"),
        ("Hash mismatch for `idna==3.4`", "hashes"),
        ("the requested interpreter does not satisfy `requires-python`", "Python"),
        ("who knows", "by hand"),
    ],
)
def test_every_failure_has_a_way_out(text: str, words: str) -> None:
    assert words in uv.way_out_of(text)
