"""What is thought of a new revision, by what its replicas answered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shoal.model.signals import Traffic


class Verdict(StrEnum):
    PASS = "pass"
    """It is surely not worse by more than is tolerated."""
    FAIL = "fail"
    """It is worse, by more than chance explains."""
    INCONCLUSIVE = "inconclusive"
    """Neither is sure yet. Also: there was nothing to judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    verdict: Verdict
    words: str
    """With its numbers: `revision 4 failed 3.1 % of 1,012 requests, revision 3 0.2 % of 9,120 (p = 0.0004)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What is no fault of a new revision, however sure it is."""

    errors: float
    """So much more of all requests may fail before it is called worse: 0.005 is half a point..."""
    errors_relative: float
    """...and so much of what failed before: 0.25 is a quarter of it. The greater of both holds."""
    slower: float
    """Answers may take so many times as long: 1.25 is a quarter longer..."""
    slower_ms: float
    """...or so many milliseconds longer; again the greater of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Of the two revisions of a rollout, from a moment on."""

    since: float
    new: Traffic
    old: Traffic
    """What was counted until then."""
    looks: int = 0
    """How often they were judged since then."""
    verdict: Verdict = Verdict.INCONCLUSIVE
    """Of the last look."""
    words: str = ""
