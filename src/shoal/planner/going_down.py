"""In which order the services of an app that goes down leave: callers first, so that what they have under way can still
ask those that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shoal.model import action as act
from shoal.model.replica import ENDED, Replica
from shoal.model.world import Desired, Observed
from shoal.planner.leaving import down_by
from shoal.planner.steps import Step, Wait


def go_down(desired: Desired, observed: Observed, now: float) -> Iterator[Step]:
    """A service leaves once no process of its callers is left; those in a circle leave together. All that is left when
    the drain time of the whole app is over leaves at once."""
    at_once = desired.hurry or now >= down_by(desired)
    held = {} if at_once else _held(desired, observed)
    for name in desired.targets:
        there = [r for r in observed.of(name) if not r.leaving and not is_history(r, desired)]
        if there and name in held:
            yield Wait(subject=name, reason=f"goes down after {held[name]}, which needs it", until=down_by(desired))
            continue
        for replica in there:
            yield act.DrainReplica(replica=replica.id, reason="the app goes down")


def is_history(replica: Replica, desired: Desired) -> bool:
    """A job's run that has ended: kept, also while the app is down."""
    target = desired.targets.get(replica.service)
    return replica.state in ENDED and target is not None and target.service.job is not None


def _held(desired: Desired, observed: Observed) -> dict[str, str]:
    """Service -> the first caller, of it or of one in a circle of calls with it, that has a process and is outside of
    that circle."""
    calls = {n: (*t.service.calls, *t.service.resources) for n, t in desired.targets.items()}
    circle = circles(calls)
    held: dict[int, str] = {}
    for caller, callees in calls.items():
        if any(replica.runs for replica in observed.of(caller)):
            for callee in callees:
                if callee in circle and circle[callee] != circle[caller]:
                    held.setdefault(circle[callee], caller)
    return {name: held[number] for name, number in circle.items() if number in held}


def circles(calls: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Service -> a number that it shares with exactly those that it both calls and is called by, over others too
    (Tarjan's strongly connected components, without recursion: a chain may be a thousand long)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    found: dict[str, int] = {}
    stack: list[str] = []
    for root in calls:
        if root in number:
            continue
        number[root] = low[root] = len(number)
        stack.append(root)
        path = [(root, iter(calls[root]))]
        while path:
            name, rest = path[-1]
            callee = next((c for c in rest if c in calls and c not in found), None)
            if callee is None:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[name])
                if low[name] == number[name]:
                    while (member := stack.pop()) != name:
                        found[member] = number[name]
                    found[name] = number[name]
            elif callee in number:
                low[name] = min(low[name], number[callee])
            else:
                number[callee] = low[callee] = len(number)
                stack.append(callee)
                path.append((callee, iter(calls[callee])))
    return found
