"""One delta ADS stream, without the stream: requests go in, responses come out, time is an argument.

Make before break: clusters, then endpoints, then listeners and routes once every cluster they lead to is warm, and only
then the removal of clusters that nothing leads to any more. Every gate has a time-out. One response of each type is
under way at a time; what the client refuses is sent again in halves until the bad resource is alone, which then waits
(quarantine) while all others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shoal.mesh.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, TYPES
from shoal.xds.library import Library, Resource
from shoal.xds.shelf import Flight, Refusal, Shelf
from shoal.xds.wire import Request

WARM_S_MAX = 6.0
"""How long routes wait for a cluster's endpoints to be confirmed. Envoy itself gives up after 5 s."""
REMOVAL_S_MAX = 30.0
"""How long a cluster outlives its removal while the client's listeners still drain towards it."""
RETRY_S = 5.0
RETRY_S_MAX = 60.0
"""A refused resource is offered again after 5 s, then twice as long each time: a taken port gets free."""
BATCH_MAX = 1000
"""Resources in one response."""

_WILDCARD = "*"
_UNSURE = "?"
"""In place of a version that may be another, or before one that the client may hold or not."""
_ALL_BY_DEFAULT = (CLUSTER, LISTENER)
_ROUTING = (LISTENER, ROUTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    type_url: str
    nonce: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One resource that the client refused, with its words."""

    type_url: str
    name: str
    version: str
    message: str


class Session:
    """What one connected client has been sent, has confirmed and still lacks."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._shelves = {type_url: Shelf() for type_url in TYPES}
        self._number = 0
        self._warming: dict[str, tuple[int, float]] = {}
        """Cluster -> (number of the response that sent it, when to stop waiting): its endpoints are not confirmed."""
        self._usable: set[str] = set()
        """Clusters that were warm once on this client; a changed one serves with its old settings until it is again."""
        self._awaited: dict[tuple[str, str], tuple[str, str]] = {}
        """What the client has yet to ask for -> the resource that will make it."""
        self._needs: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}
        """Of each listener and route configuration that the client holds, in the version it holds."""
        self._removals: dict[str, float] = {}
        """Clusters to remove -> when to stop waiting for what leads to them."""
        self._rejections: list[Rejection] = []
        self._overdue: list[str] = []

    # What comes in.

    def receive(self, request: Request, now: float) -> None:
        """Subscriptions, and how the last response went. A type that Shoal does not serve is ignored."""
        shelf = self._shelves.get(request.type_url)
        if shelf is None:
            return
        first = not shelf.seen
        shelf.seen = True
        if first:
            self._declared(request.type_url, shelf, request.initial_versions, now)
        flight = shelf.flight
        # A nonce that is not the last one's answers a response that no longer matters.
        if flight is not None and request.nonce == str(flight.number):
            shelf.flight = None
            if request.error is None:
                self._accepted(request.type_url, shelf, flight)
            else:
                self._refused(request.type_url, shelf, flight, request.error, now)
        self._subscribed(request, shelf, first=first)

    def changed(self, names: Mapping[str, Iterable[str]]) -> None:
        """The library has other versions of these, or none any more."""
        for type_url, some in names.items():
            shelf = self._shelves[type_url]
            for name in some:
                if shelf.wants(name):
                    shelf.due.add(name)
                if self._library.get(type_url, name) is None:
                    shelf.refused.pop(name, None)

    # What goes out.

    def next_response(self, now: float) -> Response | None:
        """The next thing to send; None: nothing before the client answers, the library changes or `deadline`."""
        self._expire(now)
        for type_url in TYPES:
            shelf = self._shelves[type_url]
            if shelf.flight is None and shelf.seen:
                response = self._response(type_url, shelf, now)
                if response is not None:
                    return response
        return None

    def deadline(self) -> float | None:
        """When to call `next_response` even if nothing happens."""
        times = [until for _, until in self._warming.values()]
        for type_url, shelf in self._shelves.items():
            if shelf.flight is None:  # else its answer comes first
                times += [refusal.retry_at for refusal in shelf.refused.values()]
                times += self._removals.values() if type_url == CLUSTER else ()
        return min(times, default=None)

    def take_rejections(self) -> list[Rejection]:
        taken, self._rejections = self._rejections, []
        return taken

    def take_overdue(self) -> list[str]:
        """Words for the log: gates that were opened by their time-out."""
        taken, self._overdue = self._overdue, []
        return taken

    @property
    def in_sync(self) -> bool:
        """Whether the client confirmed all of the library, but for what it refuses and for clusters that only wait to
        be removed: nothing leads to those. Refused endpoints are never in sync: the old ones go on being used."""
        if not all(self._shelves[t].seen for t in _ALL_BY_DEFAULT) or self._shelves[ENDPOINTS].refused:
            return False
        if any(self._library.get(CLUSTER, cluster) for cluster in self._warming):
            return False
        for type_url, shelf in self._shelves.items():
            waiting = shelf.due - self._removals.keys() if type_url == CLUSTER else shelf.due
            if shelf.flight is not None or shelf.split or shelf.owes_answer or waiting:
                return False
        self._forget_awaited()
        return not self._awaited

    @property
    def refusals(self) -> tuple[tuple[str, str], ...]:
        """(resource, Envoy's words) of all that the client refuses in the version that the library has."""
        found = []
        for type_url, shelf in self._shelves.items():
            for name, refusal in shelf.refused.items():
                resource = self._library.get(type_url, name)
                if resource is not None and resource.version == refusal.version:
                    found.append((name, refusal.message.strip()))
        return tuple(sorted(found))

    # Requests, piece by piece.

    def _declared(self, type_url: str, shelf: Shelf, versions: Mapping[str, str], now: float) -> None:
        """What the client kept from an earlier stream. Its clusters come first, then their endpoints: one without had
        not become warm."""
        shelf.held.update(versions)
        for name, version in versions.items():
            resource = self._library.get(type_url, name)
            if resource is not None and resource.version == version:
                self._holds(type_url, resource)
            elif resource is not None or type_url in _ALL_BY_DEFAULT:
                shelf.due.add(name)
        if type_url == CLUSTER:
            for name in versions:
                if self._endpoints_of(name):
                    self._warming[name] = (0, now + WARM_S_MAX)
                else:
                    self._usable.add(name)
        elif type_url == ENDPOINTS:
            for name in self._shelves[CLUSTER].held:
                if self._endpoints_of(name) & versions.keys():
                    self._usable.add(name)
                    if self._warming.get(name, (1, now))[0] == 0:
                        del self._warming[name]

    def _endpoints_of(self, cluster: str) -> set[str]:
        """The names of its assignments: one, or none if it has its own addresses."""
        resource = self._library.get(CLUSTER, cluster)
        return {name for t, name in resource.needs if t == ENDPOINTS} if resource else {cluster}

    def _subscribed(self, request: Request, shelf: Shelf, *, first: bool) -> None:
        type_url = request.type_url
        for name in request.unsubscribe:
            if name == _WILDCARD:
                shelf.wildcard = False
            shelf.names.discard(name)
            if not shelf.wants(name):
                shelf.held.pop(name, None)
                shelf.refused.pop(name, None)
                shelf.due.discard(name)
                shelf.forced.discard(name)
                self._needs.pop((type_url, name), None)
        everything = _WILDCARD in request.subscribe or (first and not request.subscribe and type_url in _ALL_BY_DEFAULT)
        if everything:
            shelf.wildcard = True
            shelf.due.update(self._library.resources[type_url])
            shelf.owes_answer = not request.initial_versions
        for name in request.subscribe:
            if name == _WILDCARD:
                continue
            shelf.names.add(name)
            shelf.due.add(name)
            if not (first and name in request.initial_versions):
                shelf.forced.add(name)  # asked for again: it dropped what it had

    def _accepted(self, type_url: str, shelf: Shelf, flight: Flight) -> None:
        for name, resource in flight.sent.items():
            shelf.refused.pop(name, None)
            if resource is None:
                self._dropped(type_url, shelf, name)
            elif shelf.wants(name):
                shelf.held[name] = resource.version
                self._holds(type_url, resource)
        if type_url == ENDPOINTS:
            self._warm(flight)
        elif type_url == CLUSTER:
            self._usable.update(n for n, r in flight.sent.items() if r is not None and not r.needs)

    def _refused(self, type_url: str, shelf: Shelf, flight: Flight, error: str, now: float) -> None:
        """The client refuses a response as a whole, whichever of its resources is bad."""
        for name in [name for name, resource in flight.sent.items() if resource is None]:
            self._dropped(type_url, shelf, name)  # nothing can be wrong with a removal
            del flight.sent[name]
        names = sorted(flight.sent)
        if type_url == ENDPOINTS:
            self._warm(flight)
        if len(names) > 1:
            for name in names:
                self._in_doubt(type_url, shelf, flight.sent[name])
            half = len(names) // 2
            shelf.split[:0] = [tuple(names[:half]), tuple(names[half:])]
            shelf.forced.update(names)
            return
        for name in names:
            resource = flight.sent[name]
            assert resource is not None
            if shelf.held.get(name) == _UNSURE + resource.version:
                self._dropped(type_url, shelf, name)
            if type_url == CLUSTER and name not in shelf.held:
                self._warming.pop(name, None)  # else its old version may be warming still
                self._usable.discard(name)
            if self._library.get(type_url, name) is None:
                continue  # nobody wants it any more
            before = shelf.refused.get(name)
            times = before.times + 1 if before is not None and before.version == resource.version else 1
            wait_s = min(RETRY_S * 2 ** (times - 1), RETRY_S_MAX)
            shelf.refused[name] = Refusal(version=resource.version, message=error, times=times, retry_at=now + wait_s)
            self._rejections.append(Rejection(type_url=type_url, name=name, version=resource.version, message=error))

    def _in_doubt(self, type_url: str, shelf: Shelf, part: Resource | None) -> None:
        """Part of a response that the client refused: it may have taken this one, or kept what it had."""
        assert part is not None
        key, doubtful = (type_url, part.name), _UNSURE + part.version
        if type_url in _ROUTING and (key in self._needs or part.name not in shelf.held):
            self._needs[key] = self._needs.get(key, frozenset()) | part.needs
        shelf.held[part.name] = doubtful if shelf.held.get(part.name, doubtful) == doubtful else _UNSURE

    def _holds(self, type_url: str, resource: Resource) -> None:
        """The client has this version now: what does it have to ask for next, what does it lead to?"""
        key = (type_url, resource.name)
        if type_url in _ROUTING:
            self._needs[key] = resource.needs
        for needed_type, needed in resource.needs:
            if needed_type in (ENDPOINTS, ROUTES) and needed not in self._shelves[needed_type].held:
                self._awaited[needed_type, needed] = key

    def _dropped(self, type_url: str, shelf: Shelf, name: str) -> None:
        shelf.held.pop(name, None)
        self._needs.pop((type_url, name), None)
        if type_url == CLUSTER:
            self._warming.pop(name, None)

    def _warm(self, flight: Flight) -> None:
        """These endpoints arrived: the clusters that were sent before them are warm."""
        for cluster, (number, _) in list(self._warming.items()):
            if number < flight.number and self._endpoints_of(cluster) & flight.sent.keys():
                del self._warming[cluster]
                self._usable.add(cluster)

    def _forget_awaited(self) -> None:
        """What nothing on the client leads to any more is never asked for; what it has or refuses, it asked for."""
        for (type_url, name), (by_type, by_name) in list(self._awaited.items()):
            by, shelf = self._library.get(by_type, by_name), self._shelves[type_url]
            current = by is not None and self._shelves[by_type].held.get(by_name) == by.version
            if not current or name in shelf.held or name in shelf.refused or self._library.get(type_url, name) is None:
                del self._awaited[type_url, name]

    # Responses, piece by piece.

    def _expire(self, now: float) -> None:
        for cluster, (_, until) in list(self._warming.items()):
            if now >= until:
                del self._warming[cluster]
                self._usable.add(cluster)
                self._overdue.append(f"cluster {cluster} is not warm after {WARM_S_MAX:g} s; its routes wait no longer")
        for shelf in self._shelves.values():
            for name, refusal in shelf.refused.items():
                if now >= refusal.retry_at and shelf.flight is None and (name,) not in shelf.split:
                    shelf.split.append((name,))
                    shelf.forced.add(name)

    def _response(self, type_url: str, shelf: Shelf, now: float) -> Response | None:
        alone = bool(shelf.split)
        while True:
            names = shelf.split.pop(0) if shelf.split else tuple(sorted(shelf.due))
            sent = self._chosen(type_url, shelf, names, now, alone=alone)
            if sent or not alone:
                break
            alone = bool(shelf.split)
        if not sent and not shelf.owes_answer:
            return None
        shelf.owes_answer = False
        self._number += 1
        shelf.flight = Flight(number=self._number, sent=sent)
        if type_url == CLUSTER:
            self._sent_clusters(sent, now)
        return Response(
            type_url=type_url,
            nonce=str(self._number),
            resources=tuple(resource for resource in sent.values() if resource is not None),
            removed=tuple(name for name, resource in sent.items() if resource is None),
        )

    def _chosen(
        self, type_url: str, shelf: Shelf, names: Iterable[str], now: float, *, alone: bool
    ) -> dict[str, Resource | None]:
        """Which of these names go out now. Those that wait for a gate stay due; those with nothing to send do not.

        Removals come first: a listener's address is free before another takes it.
        """
        removed: dict[str, Resource | None] = {}
        added: dict[str, Resource | None] = {}
        leading = None
        for name in names:
            resource = self._library.get(type_url, name)
            if resource is not None:
                if type_url == CLUSTER:
                    self._removals.pop(name, None)  # it is back
                if self._is_known(shelf, resource, alone=alone):
                    shelf.due.discard(name)
                elif len(added) < BATCH_MAX and not self._is_gated(type_url, resource):
                    added[name] = resource
                continue
            asked = name in shelf.forced and name in shelf.names
            if not asked and not (name in shelf.held and type_url in _ALL_BY_DEFAULT):
                # Endpoints and routes end with the cluster or listener that asked for them.
                self._gone(type_url, shelf, name)
                continue
            if type_url == CLUSTER:
                leading = self._leading() if leading is None else leading
                if leading & {name, None}:
                    if now < self._removals.setdefault(name, now + REMOVAL_S_MAX):
                        continue
                    self._overdue.append(f"cluster {name} is removed although routes of this Envoy may lead to it")
            removed[name] = None
        chosen = removed | added
        for name in chosen:
            shelf.due.discard(name)
            shelf.forced.discard(name)
            if chosen[name] is None:
                self._gone(type_url, shelf, name)
        return chosen

    def _gone(self, type_url: str, shelf: Shelf, name: str) -> None:
        shelf.due.discard(name)
        shelf.forced.discard(name)
        shelf.refused.pop(name, None)
        if type_url == CLUSTER:
            self._removals.pop(name, None)
            self._usable.discard(name)
            self._warming.pop(name, None)

    def _is_known(self, shelf: Shelf, resource: Resource, *, alone: bool) -> bool:
        refusal = shelf.refused.get(resource.name)
        if refusal is not None and refusal.version == resource.version and not alone:
            return True
        return shelf.held.get(resource.name) == resource.version and resource.name not in shelf.forced

    def _is_gated(self, type_url: str, resource: Resource) -> bool:
        """Whether it leads to a cluster that the client cannot use yet, but will."""
        if type_url not in _ROUTING:
            return False
        return any(t == CLUSTER and self._is_coming(name) for t, name in resource.needs)

    def _is_coming(self, cluster: str) -> bool:
        """Not usable yet, and neither refused nor unknown."""
        shelf, resource = self._shelves[CLUSTER], self._library.get(CLUSTER, cluster)
        if resource is None or cluster in self._usable or not shelf.wants(cluster):
            return False
        refusal = shelf.refused.get(cluster)
        return refusal is None or refusal.version != resource.version

    def _leading(self) -> set[str | None]:
        """Clusters that listeners and routes on the client lead to. None: some of its resources are not known yet."""
        found: set[str | None] = set()
        listeners, routes = self._shelves[LISTENER], self._shelves[ROUTES]
        self._forget_awaited()
        # After a reconnect it says one type after the other which it has.
        if not listeners.seen or (listeners.held and not routes.seen) or any(t == ROUTES for t, _ in self._awaited):
            found.add(None)
        found |= {None for name in routes.held if (ROUTES, name) not in self._needs}
        for needs in self._needs.values():
            found |= {n for t, n in needs if t == CLUSTER}
        for shelf in (listeners, routes):
            for resource in shelf.flight.sent.values() if shelf.flight else ():
                found |= {n for t, n in resource.needs if t == CLUSTER} if resource else set()
        return found

    def _sent_clusters(self, sent: Mapping[str, Resource | None], now: float) -> None:
        """A cluster that was sent, changed or new, waits for its endpoints to be sent after it, even unchanged ones."""
        endpoints = self._shelves[ENDPOINTS]
        for name, resource in sent.items():
            if resource is None:
                continue
            for type_url, needed in resource.needs:
                if type_url == ENDPOINTS:
                    self._warming[name] = (self._number, now + WARM_S_MAX)
                    endpoints.forced.add(needed)
                    if endpoints.wants(needed):  # else it asks soon: a new client, or one that reconnects
                        endpoints.due.add(needed)
