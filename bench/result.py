"""What a benchmark gives back, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    low: float
    high: float
    count: int

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """ValueError: there are none."""
        if not values:
            raise ValueError("nothing was measured")
        return Spread(median=median(values), low=min(values), high=max(values), count=len(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number of ours, beside the same of others in the same run. Less is better."""

    what: str
    unit: str
    ours: Spread
    peers: Mapping[str, Spread | str] = field(default_factory=dict)
    """Name -> what it measured, or why it could not."""
    beside: Mapping[str, Spread] = field(default_factory=dict)
    """More of our own numbers, for comparison: parts of the sum, a smaller app."""
    target: str = ""
    """In words; empty: there is none."""
    met: bool | None = None
    """None: there is no target, or nothing to compare with."""

    def ratio(self, peer: str) -> float | None:
        """Ours by theirs; None where they have no number."""
        theirs = self.peers.get(peer)
        if not isinstance(theirs, Spread) or theirs.median == 0:
            return None
        return self.ours.median / theirs.median


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    name: str
    title: str
    measures: Sequence[Measure]
    notes: Sequence[str] = ()


def to_plain(result: Result) -> dict[str, object]:
    """For JSON."""
    return {
        "name": result.name,
        "title": result.title,
        "measures": [_plain_measure(measure) for measure in result.measures],
        "notes": list(result.notes),
    }


def _plain_measure(measure: Measure) -> dict[str, object]:
    peers = {
        name: peer if isinstance(peer, str) else {**_plain_spread(peer), "ratio": _rounded(measure.ratio(name))}
        for name, peer in measure.peers.items()
    }
    return {
        "what": measure.what,
        "unit": measure.unit,
        "ours": _plain_spread(measure.ours),
        "peers": peers,
        "beside": {name: _plain_spread(spread) for name, spread in measure.beside.items()},
        "target": measure.target or None,
        "met": measure.met,
    }


def _plain_spread(spread: Spread) -> dict[str, object]:
    numbers = {"median": spread.median, "low": spread.low, "high": spread.high}
    return {key: _rounded(value) for key, value in numbers.items()} | {"count": spread.count}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def table(results: Iterable[Result]) -> str:
    """Markdown, as in docs/benchmarks.md."""
    lines = ["| what | ours | others, and ours by theirs | target | met |", "|---|---|---|---|---|"]
    for result in results:
        lines.extend(_row(measure) for measure in result.measures)
    return "\n".join(lines)


def _row(measure: Measure) -> str:
    beside = (f"(Shoal: {name} {_show(spread)})" for name, spread in measure.beside.items())
    others = "; ".join([*(_peer(measure, name) for name in measure.peers), *beside])
    met = {True: "yes", False: "**no**", None: ""}[measure.met]
    return f"| {measure.what} | {_show(measure.ours)} {measure.unit} | {others} | {measure.target} | {met} |"


def _peer(measure: Measure, name: str) -> str:
    theirs = measure.peers[name]
    if isinstance(theirs, str):
        return f"{name}: {theirs}"
    ratio = measure.ratio(name)
    return f"{name} {_show(theirs)}" + (f" ({ratio:.2f}x)" if ratio is not None else "")


def _show(spread: Spread) -> str:
    if spread.count == 1:
        return _short(spread.median)
    return f"{_short(spread.median)} [{_short(spread.low)}-{_short(spread.high)}]"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
