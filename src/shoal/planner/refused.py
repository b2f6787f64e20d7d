"""What Envoy refuses of a service's new spec: then the deploy is not what was asked for, whoever is ready."""

from __future__ import annotations

import re
from collections.abc import Iterator

from shoal.model import action as act
from shoal.model.rollout import Rollout, RolloutTrigger
from shoal.model.world import Observed, Target
from shoal.planner.defaults import REFUSED_S
from shoal.planner.keeping import Standing
from shoal.planner.steps import Step, Wait

_KINDS = ("publish", "door", "edge", "service")
"""What the names of listeners and routes begin with, before a dot; clusters begin with their service."""
_IPV6 = ".v6"
"""Ends the name of a listener that may fail: 127.0.0.1 has one of its own."""


def refused(
    target: Target, rollout: Rollout, observed: Observed, now: float, *, fails: RolloutTrigger
) -> act.MoveRollout | Wait | None:
    """What of this service Envoy has refused since the rollout began: for a while it is waited for, then the rollout
    has failed by it. None: nothing, or there is no older revision that Envoy took."""
    if rollout.fallback is None:
        return None
    name = target.service.name
    there = sorted(r for r in observed.rejected if r not in rollout.refused_before and concerns(r, name))
    if not there:
        return None
    resource = min(there, key=lambda one: observed.rejected_since.get(one, now))
    reason = f"Envoy refuses '{resource}': {observed.rejected[resource]}"
    until = observed.rejected_since.get(resource, now) + REFUSED_S
    if now < until:
        return Wait(subject=name, reason=reason, until=until)
    return act.MoveRollout(service=name, trigger=fails, reason=reason)


def concerns(resource: str, service: str) -> bool:
    """By its name (`mesh`): `web`, `web:metrics`, `web|h2`, `service.web`, `publish.web.3000`, `edge.cart.web.3000`."""
    if resource.endswith(_IPV6):
        return False
    kind, _, rest = resource.partition(".")
    return service in re.split(r"[.:|]", rest if kind in _KINDS and rest else resource)


def withheld(steps: Iterator[Step], wait: Wait | None, stands: Standing) -> Iterator[Step]:
    """With `wait`: what nobody can undo waits for Envoy's word, the end of the rollout and that of old replicas which
    serve."""
    if wait is None:
        yield from steps
        return
    serving = {replica.id for replica in stands.serving}
    for step in steps:
        ends = isinstance(step, act.MoveRollout) and step.trigger is RolloutTrigger.REPLACED
        if not ends and not (isinstance(step, act.DrainReplica) and step.replica in serving):
            yield step
    yield wait
