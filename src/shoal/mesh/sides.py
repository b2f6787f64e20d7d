"""The two Envoys of an app in which services have networks of their own, and the doors between them.

Each is a **side**: HOST is the machine's network, OWN the app's mesh network. A replica is reached by the Envoy of its
side alone. What one Envoy has for a service of the other side is a **door**: a Unix socket on which the other listens,
because Unix sockets lead from network to network. Routes, retries among replicas and time-outs are where the replicas
are; the side of the caller tries again only what did not get through the door.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from shoal.model.app import App, External, Network, Port, Service
from shoal.model.traffic import Breaker, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Door(External):
    """In place of the workload of a service of the other side. `host` is the folder of the doors, `port` nothing."""


def has_own_side(app: App) -> bool:
    return any(service.network is Network.OWN for service in app.services)


def door_path(folder: str, side: Network, leads_to: str) -> str:
    """Where that side's Envoy listens. Short, whatever the names: a Unix socket's path has an end."""
    return f"{folder}/{side}-{hashlib.blake2b(leads_to.encode(), digest_size=6).hexdigest()}.door"


def seen_from(app: App, side: Network, doors: str) -> App:
    """The app as that side's Envoy has it: services of the other side are doors."""
    return replace(app, services=tuple(_seen(service, side, doors) for service in app.services))


def _seen(service: Service, side: Network, doors: str) -> Service:
    if service.network is side:
        return service
    return behind_door(service, doors)


def behind_door(service: Service, doors: str) -> Service:
    """The service as who reaches it through its door has it. What is counted, chosen and put aside there is not counted
    and chosen a second time in front of it."""
    return replace(
        service,
        workload=Door(host=doors, port=0),
        rewrite_host=None,
        traffic=at_door(service.traffic),
    )


def at_door(said: Policy) -> Policy:
    """What is left of a policy in front of a door: how long, and how often what did not get through is tried."""
    return Policy(
        timeout_s=said.timeout_s,
        per_try_timeout_s=0.0,
        retries=said.retries,
        breaker=Breaker(connections=0, pending=0, requests=0),
    )


def doors_of(app: App, side: Network) -> Iterator[tuple[Service, Port]]:
    """What the other side may want of this one: on OWN everything, as there is the front door; on HOST what is called
    by services with networks of their own."""
    called = {callee for caller in app.services if caller.network is not side for callee in caller.calls}
    for service in app.services:
        if service.network is side and (side is Network.OWN or service.name in called):
            for port in service.every_port:
                yield service, port
