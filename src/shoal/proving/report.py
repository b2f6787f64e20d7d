"""What a proof found, as a value, as a table and in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from shoal.proving.load import Outcome

REASONS_MAX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One disturbance."""

    name: str
    kind: str
    service: str | None
    requests: int
    """Sent from its begin until all was well again."""
    lost: int
    reasons: tuple[str, ...]
    """Of the lost ones, the most frequent first, each with its count."""
    recovery_s: float
    """From its end until all was well again."""
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    problem: str = ""
    """Why it could not be done, or did not end well; empty: it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    app: str
    seconds: float
    targets: tuple[str, ...]
    left_out: tuple[str, ...]
    """URLs that were not asked, and why."""
    quiet: Row
    """Before anything happened: what the rest is to be compared with."""
    rows: tuple[Row, ...] = field(default=())

    @property
    def requests(self) -> int:
        return self.quiet.requests + sum(row.requests for row in self.rows)

    @property
    def lost(self) -> int:
        return self.quiet.lost + sum(row.lost for row in self.rows)

    @property
    def slowest_recovery_s(self) -> float:
        return max((row.recovery_s for row in self.rows), default=0.0)

    @property
    def proven(self) -> bool:
        """Nothing was lost, and everything came back."""
        return self.lost == 0 and not any(row.problem for row in self.rows)


def row(
    name: str, kind: str, service: str | None, outcomes: Sequence[Outcome], *, recovery_s: float, problem: str = ""
) -> Row:
    took = sorted(outcome.took_s * 1000 for outcome in outcomes if not outcome.lost)
    reasons = Counter(outcome.lost for outcome in outcomes if outcome.lost)
    return Row(
        name=name,
        kind=kind,
        service=service,
        requests=len(outcomes),
        lost=sum(reasons.values()),
        reasons=tuple(f"{count} x {reason}" for reason, count in reasons.most_common(REASONS_MAX)),
        recovery_s=round(recovery_s, 2),
        p50_ms=_at(took, 0.50),
        p99_ms=_at(took, 0.99),
        slowest_ms=_at(took, 1.0),
        problem=problem,
    )


def lines(report: Report) -> list[list[str]]:
    """The table: what, requests, lost, well again after, p50, p99, slowest."""
    return [
        [
            each.name,
            str(each.requests),
            str(each.lost),
            f"{each.recovery_s:.1f} s" if each is not report.quiet else "",
            f"{each.p50_ms:.0f} ms",
            f"{each.p99_ms:.0f} ms",
            f"{each.slowest_ms:.0f} ms",
        ]
        for each in (report.quiet, *report.rows)
    ]


HEADER = ("what happened", "requests", "lost", "well again", "p50", "p99", "slowest")


def verdict(report: Report) -> str:
    """One sentence, for people."""
    if not report.rows:
        return "nothing was disturbed"
    what = f"{report.requests:,} requests over {len(report.rows)} disturbances in {report.seconds:.0f} s"
    failed = sum(1 for each in report.rows if each.problem)
    if report.proven:
        return f"{what}: none lost; the slowest recovery took {report.slowest_recovery_s:.1f} s"
    parts = [f"{report.lost:,} lost"] if report.lost else []
    if failed:
        parts.append(f"{failed} did not come back as they should")
    return f"{what}: {', '.join(parts)}"


def _at(ordered: Sequence[float], share: float) -> float:
    """The value below or at which this share lies; 0 for none."""
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else 0.0
