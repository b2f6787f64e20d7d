"""Taking a failed rollout back: the service alone where the rest of the app fits to what it was, else the whole deploy.
Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from shoal.control.revisions import digest
from shoal.model import event as ev
from shoal.model.app import App
from shoal.model.rollout import Fallback, Outcome, Rollout, RolloutState
from shoal.model.world import Desired, Stable, Target
from shoal.spec.barriers import cycles

OUTCOMES_KEPT = 20
"""Of a service; more than there are revisions of it."""


def returned(
    desired: Desired, target: Target, rollout: Rollout, fallback: Fallback
) -> tuple[Desired, tuple[ev.RolloutEvent, ...]] | None:
    """`rollout`: of `target`, as it is from now on. None: neither the service nor the deploy can return."""
    name = target.service.name
    services = (fallback.revision.service if s.name == name else s for s in desired.app.services)
    app = replace(desired.app, services=tuple(services))
    after = replace(desired, targets={**desired.targets, name: _back(target, rollout, fallback)})
    told = failed(rollout, name, fallback.revision.number)
    if fallback.revision.service == target.service:
        return after, (told,)
    why = misfit(app, name, after)
    if not why:
        return _newer(after, app, rollout.since), (told,)
    if desired.stable is None:
        return None
    return _whole(desired, desired.stable, name, told, f"{name} cannot go back alone: {why}")


def misfit(app: App, name: str, desired: Desired) -> str:
    """Why the app is not sound with an older spec of this service in it, in words; empty: it is."""
    there = {service.name: service for service in app.services}
    service = there[name]
    for needed in (*service.calls, *service.after):
        if needed not in there:
            return f"{needed}, which it needs, is not in the app any more"
    for route in app.gateway.routes if app.gateway is not None else ():
        ports = {port.name for port in service.every_port}
        if route.service == name and (not ports or (route.port and route.port not in ports)):
            return f"the gateway leads {route.path} to a port that it does not have"
    if cycles({one: [a for a in s.after if a in there] for one, s in there.items()}):
        return "its 'after' waits for what waits for it"
    published = Counter(p.number for s in app.services for p in s.every_port if p.publish)
    published.update([app.gateway.port] if app.gateway is not None else [])
    if twice := [str(number) for number, count in published.items() if count > 1]:
        return f"port {', '.join(twice)} would be published twice"
    for other in app.services:
        # What a replica was told of the ports of those that it calls must still be so.
        concerned = other.name == name or name in other.calls
        if not concerned:
            continue
        if any(there[callee].port is None for callee in other.calls if callee in there):
            return f"{other.name} calls one that has no port then"
        revision = desired.targets[other.name].revision
        if digest(app, other, revision.source) != revision.digest:
            return f"the ports between it and {other.name} have changed"
    return ""


def failed(rollout: Rollout, name: str, previous: int | None) -> ev.RolloutFailed:
    return ev.RolloutFailed(
        at=rollout.since,
        service=name,
        revision=rollout.revision,
        reason=rollout.reason,
        previous=previous,
        tail=rollout.tail,
    )


def with_outcome(target: Target, rollout: Rollout, state: RolloutState) -> tuple[Outcome, ...]:
    """What is remembered of the service's rollouts, with this one's end at `rollout.since`."""
    others = [outcome for outcome in target.outcomes if outcome.revision != rollout.revision]
    last = Outcome(revision=rollout.revision, state=state, at=rollout.since, reason=rollout.reason, tail=rollout.tail)
    return (*others, last)[-OUTCOMES_KEPT:]


def _back(target: Target, rollout: Rollout, fallback: Fallback) -> Target:
    return Target(
        revision=fallback.revision,
        replicas=fallback.replicas,
        generation=fallback.generation,
        rollout=rollout,
        outcomes=with_outcome(target, rollout, RolloutState.FAILED),
    )


def _newer(desired: Desired, app: App, now: float) -> Desired:
    """A generation of its own, as for every change of what Envoy is given."""
    return replace(desired, app=app, generation=desired.generation + 1, at=now)


def _whole(
    desired: Desired, stable: Stable, name: str, told: ev.RolloutFailed, why: str
) -> tuple[Desired, tuple[ev.RolloutEvent, ...]]:
    """Every service as it was before the deploy; those that the deploy removed come back, those it added go."""
    now = told.at
    reason = f"{told.reason}; {why}, so the whole deploy goes back"
    targets: dict[str, Target] = {}
    events: list[ev.RolloutEvent] = [replace(told, reason=reason)]
    for fallback in stable.services:
        service = fallback.revision.service
        here = desired.targets.get(service.name)
        same = here is not None and (here.revision.number, here.generation) == (
            fallback.revision.number,
            fallback.generation,
        )
        if here is not None and (same or here.rollout is None):
            targets[service.name] = replace(
                here, revision=fallback.revision, replicas=fallback.replicas, generation=fallback.generation
            )
            continue
        because = reason if service.name == name else f"{name} failed, and {why}"
        last = here.rollout if here is not None else None
        rollout = Rollout(
            cause=last.cause if last is not None else f"deploy {desired.generation}",
            revision=last.revision if last is not None else fallback.revision.number,
            generation=last.generation if last is not None else fallback.generation,
            state=RolloutState.ROLLING_BACK,
            since=now,
            started_at=last.started_at if last is not None else now,
            progressed_at=now,
            fallback=fallback,
            reason=because,
            tail=told.tail if service.name == name else (),
        )
        if here is None:
            targets[service.name] = Target(
                revision=fallback.revision,
                replicas=fallback.replicas,
                generation=fallback.generation,
                rollout=rollout if service.job is None and not service.is_external else None,
            )
            continue
        targets[service.name] = _back(here, rollout, fallback)
        if service.name != name:
            events.append(failed(rollout, service.name, fallback.revision.number))
    app = replace(desired.app, services=tuple(f.revision.service for f in stable.services), gateway=stable.gateway)
    return _newer(replace(desired, targets=targets), app, now), tuple(events)
