"""`after:` of all services: who waits for whom, until what; and whether that can ever come about."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from shoal.model.app import Barrier, Restart
from shoal.spec.document import Loc
from shoal.spec.problems import did_you_mean, quoted
from shoal.spec.review import Review
from shoal.spec.schema import ServiceFile


def barriers(service: ServiceFile) -> dict[str, Barrier]:
    """By the service that is waited for; a list means: until a replica is ready."""
    if isinstance(service.after, dict):
        return {other: Barrier(word) for other, word in service.after.items()}
    return dict.fromkeys(service.after, Barrier.READY)


def check(review: Review, name: str, services: Mapping[str, ServiceFile], known: Collection[str]) -> None:
    """`services`: the sound ones; `known`: every name in the file."""
    service = services[name]
    after = service.after
    listed = isinstance(after, list)
    for i, other in enumerate(after):
        loc: Loc = ("services", name, "after", i if listed else other)
        tell = review.at_value if listed else review.at_key
        if other not in known:
            tell(loc, f"there is no service {quoted(other)}", did_you_mean(other, sorted(known)))
        elif isinstance(after, list) and other in after[:i]:
            tell(loc, f"'{other}' is named twice", "remove one")
        elif other in services:
            message, way_out = _hopeless(other, services[other], barriers(service)[other])
            if message:
                tell(loc, message, way_out)


def check_cycles(review: Review, services: Mapping[str, ServiceFile]) -> None:
    for cycle in cycles({name: [a for a in s.after if a in services] for name, s in services.items()}):
        way = " -> ".join([*cycle, cycle[0]])
        review.at_key(
            ("services", cycle[0], "after"), f"each of these waits for the next for ever: {way}", "remove one"
        )


def _hopeless(other: str, service: ServiceFile, barrier: Barrier) -> tuple[str, str]:
    """Why this never comes about, and the way out; empty: it may."""
    if service.external is not None:
        return f"'{other}' is external: nobody knows when it is {barrier}", "remove this; it may be called"
    if service.replicas == 0:
        return f"'{other}' has replicas: 0 and never gets {barrier}", "give it one, or remove this"
    if barrier is Barrier.COMPLETED and Restart(service.restart) is Restart.ALWAYS:
        return f"'{other}' never completes: it is always started again", f"give '{other}' restart: on-failure, or never"
    if barrier is Barrier.READY and Restart(service.restart) is Restart.NEVER:
        return f"'{other}' is no server: it ends, and that counts", f"write after: {{{other}: completed}}"
    return "", ""


def cycles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """At least one cycle of each knot in the graph; none when it has none. Every node named must be a key."""
    found: list[list[str]] = []
    done: set[str] = set()
    for start in graph:
        path: dict[str, int] = {}
        stack = [] if start in done else [(start, iter(graph[start]))]
        if stack:
            path[start] = 0
        while stack:
            node, rest = stack[-1]
            for follower in rest:
                if follower in path:
                    found.append(list(path)[path[follower] :])
                elif follower not in done:
                    path[follower] = len(stack)
                    stack.append((follower, iter(graph[follower])))
                    break
            else:
                stack.pop()
                del path[node]
                done.add(node)
    return found
