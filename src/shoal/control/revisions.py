"""What makes a revision, and which edges an app needs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from shoal.model.app import App, Service
from shoal.model.draining import DEFAULT_DRAINING
from shoal.model.migration import DEADLINE_S
from shoal.model.policy import DEFAULT_ROLLOUT
from shoal.model.topology import ANYBODY, DENIED, EGRESS
from shoal.model.traffic import NOTHING
from shoal.model.world import Desired, Revision, Target
from shoal.spec import wire


def digest(app: App, service: Service, source: str = "") -> str:
    """Hash of all that a replica of this service is made of: its own spec, its source, and the ports of those it calls.

    How many replicas there are, what is published, how they are called and what they start after changes no replica;
    nor does how requests to them are treated, which Envoy alone knows. What is as by default is left out: else every
    upgrade of Shoal that brings a key would make new revisions of everything.
    """
    ports = tuple(replace(port, publish=False) for port in service.ports)
    # What is on the list is Envoy's; whether there is one, the replica's variables say.
    egress = service.egress and ("",)
    essence = replace(
        service,
        replicas=0,
        publish=False,
        ports=ports,
        rewrite_host=None,
        after=(),
        egress=egress,
        traffic=NOTHING,
        edges=(),
        rollout=DEFAULT_ROLLOUT,
        draining=DEFAULT_DRAINING,
        migrate=replace(service.migrate, timeout_s=DEADLINE_S, reversible=()) if service.migrate is not None else None,
    )
    callees = [
        f"{callee}:{port.number}:{port.name}:{port.protocol}"
        for callee in service.calls
        for port in app.service(callee).every_port
    ]
    text = "\n".join([wire.essence(essence), *callees, *([f"source {source}"] if source else [])])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


NO_SOURCES: Mapping[str, str] = MappingProxyType({})


def next_desired(
    app: App,
    current: Desired | None,
    newest: dict[str, Revision],
    now: float,
    sources: Mapping[str, str] = NO_SOURCES,
) -> tuple[Desired, tuple[Revision, ...], tuple[str, ...]]:
    """What is wanted after a deploy of `app`; the revisions that are new; the services that are gone.

    `newest`: the newest revision of each service ever deployed here, so that numbers go on where a service was removed
    and comes back. `sources`: the digest of each service's source tree; none for one that runs from the working tree.
    """
    targets: dict[str, Target] = {}
    fresh: list[Revision] = []
    for service in app.services:
        last = newest.get(service.name)
        source = sources.get(service.name, "")
        fingerprint = digest(app, service, source)
        before = current.targets.get(service.name) if current else None
        # After a rollback the newest is not the one that runs.
        known = [r for r in (before.revision if before else None, last) if r is not None and r.digest == fingerprint]
        if known:
            # The spec is taken over all the same: `replicas` and `publish` are not part of the digest.
            revision = replace(known[0], service=service)
        else:
            number = last.number + 1 if last else 1
            revision = Revision(service=service, number=number, digest=fingerprint, created_at=now, source=source)
            fresh.append(revision)
        targets[service.name] = Target(
            revision=revision, replicas=service.replicas, generation=before.generation if before else 0
        )
    removed = tuple(name for name in (current.targets if current else {}) if name not in targets)
    generation = current.generation + 1 if current else 1
    return Desired(app=app, generation=generation, targets=targets, at=now), tuple(fresh), removed


def edge_pairs(app: App, *, anybody: bool = False) -> Sequence[tuple[str, str]]:
    """Every (caller, callee) that needs an address, and each caller's deny edge. `anybody`: each service with a port
    also has one for callers that nobody knows."""
    return [
        *((service.name, callee) for service in app.services for callee in service.calls),
        *((service.name, DENIED) for service in app.services),
        *((service.name, EGRESS) for service in app.services if service.egress),
        *((ANYBODY, service.name) for service in app.services if anybody and service.port is not None),
    ]
