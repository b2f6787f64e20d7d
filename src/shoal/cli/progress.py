"""What changes while an app comes up, one line a change; whether it is up; and why not. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from shoal.cli.hints import way_out_of
from shoal.cli.output import clean
from shoal.errors import NotReadyError, RolledBackError
from shoal.model.status import AppStatus, ExitStatus, Health, ReplicaStatus, ServiceStatus

TAIL_LINES = 20
LONG_S = 3.0
SETTLED = (Health.READY, Health.STOPPED, Health.COMPLETED)


@dataclass(slots=True)
class Progress:
    """Turns one status after the other into lines, each change once."""

    _seen: dict[str, tuple[object, ...]] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)
    _width: int = 0

    def changes(self, status: AppStatus, elapsed_s: float) -> list[str]:
        """`cart-service  r1 ready  (1.2 s)` for each replica whose state is another one than before. What every start
        goes through is only told when it takes long."""
        lines = []
        self._width = max([self._width, *(len(service.name) for service in status.services)])
        for service in status.services:
            name = service.name.ljust(self._width)
            waits = service.health is Health.WAITING and self._is_long(service.name, elapsed_s)
            if waits and self._is_new(service.name, service.reason):
                lines.append(f"{name}  {clean(service.reason)}  ({elapsed_s:.1f} s)")
            lines += [f"{name}  {line}  ({elapsed_s:.1f} s)" for line in self._rollout(service)]
            for replica in service.replicas:
                # A reason may count down; only another wording is a change.
                words = re.sub(r"\d+(\.\d+)?", "#", replica.reason) if replica.state == "starting" else ""
                usual = words.startswith(("starts", "not ready yet"))
                if usual and not self._is_long(f"{replica.id}/{replica.attempt}", elapsed_s):
                    continue
                if self._is_new(replica.id, replica.state, replica.attempt, words):
                    short = replica.id.removeprefix(f"{service.name}-")
                    what = "ready" if replica.state == "ready" else f"{replica.state}: {clean(replica.reason)}"
                    lines.append(f"{name}  {short} {what}  ({elapsed_s:.1f} s)")
        return lines

    def _rollout(self, service: ServiceStatus) -> Iterator[str]:
        """What a rollout comes to that takes the place of something; a first one is told by its replicas."""
        rollout = service.rollout
        if rollout is None or not self._is_new(f"{service.name}/rollout", rollout.revision, rollout.state):
            return
        if rollout.state == "preparing" and rollout.previous is not None:
            yield f"revision {rollout.revision} in the place of {rollout.previous}: {rollout.cause}"
        elif rollout.state == "canary":
            yield f"revision {rollout.revision} is tried out as a canary"
        elif rollout.state == "completed" and rollout.previous is not None:
            yield f"revision {rollout.revision} has taken over"
        elif rollout.state == "rolling-back":
            yield f"goes back to revision {rollout.previous}: {clean(rollout.reason)}"
        elif rollout.state == "rolled-back":
            yield f"is back at revision {rollout.previous}"

    def _is_long(self, key: str, elapsed_s: float) -> bool:
        """Whether it has been so for a while."""
        return elapsed_s - self._since.setdefault(key, elapsed_s) >= LONG_S

    def _is_new(self, key: str, *state: object) -> bool:
        known = self._seen.get(key)
        self._seen[key] = state
        return known != state


def is_up(status: AppStatus, generation: int, rolling: Collection[str] = ()) -> bool:
    """Whether all of this deploy (or a later one) is ready, Envoy's side too, and the rollouts of these services have
    ended, or stand until a person decides."""
    rollouts = [s.rollout for s in status.services if s.name in rolling and s.rollout is not None]
    under_way = any(rollout.under_way and not rollout.stands for rollout in rollouts)
    return status.generation >= generation and status.health in SETTLED and not under_way


def rolled_back(status: AppStatus, rolling: Collection[str]) -> list[ServiceStatus]:
    """Of these services, those whose rollout has failed and that are as before again."""
    ended = (s for s in status.services if s.name in rolling and s.rollout is not None)
    return [s for s in ended if s.rollout is not None and s.rollout.state == "rolled-back"]


def why_rolled_back(services: Sequence[ServiceStatus]) -> RolledBackError:
    """The error of a deploy that was taken back: each service with its reason and the last lines."""
    names = ", ".join(service.name for service in services)
    verb = "was" if len(services) == 1 else "were"
    blocks = []
    for service in services:
        rollout = service.rollout
        assert rollout is not None
        lines = [f"{service.name}: revision {rollout.revision} failed: {rollout.reason}", f"  {service.runs}"]
        lines += [f"    | {line}" for line in rollout.tail[-TAIL_LINES:]]
        hint = way_out_of(ExitStatus(at=0, code=None, reason="", tail=rollout.tail), service)
        lines += [f"  -> {hint}"] if hint else []
        lines.append(f"  revision {service.revision} serves, as before")
        blocks.append("\n".join(lines))
    way_out = f"mend it and deploy again; more: shoal events {services[0].name}, shoal revisions {services[0].name}"
    return RolledBackError(f"{names} {verb} rolled back", way_out=way_out, detail="\n\n".join(blocks))


def failing(status: AppStatus) -> list[ServiceStatus]:
    """Services whose present revision ends again and again; an older one that did may just be on its way out."""
    return [
        service
        for service in status.services
        if service.health is Health.FAILING
        and (
            any(_failed(replica) and replica.revision == service.revision for replica in service.replicas)
            or (service.rollout is not None and service.rollout.state == "failed")
        )
    ]


def why_not_ready(status: AppStatus, waited_s: float) -> NotReadyError:
    """The error of an `up` that failed: each service that is not ready, with its command, how it ended, the last lines
    it printed, and the way out."""
    late = [s for s in status.services if s.health not in SETTLED]
    culprits = failing(status) or late
    if not culprits:
        return NotReadyError(
            f"{status.app} is not up after {waited_s:.0f} s: {status.reason}", way_out="shoal status tells more"
        )
    names = ", ".join(service.name for service in culprits)
    verb = "is" if len(culprits) == 1 else "are"
    what = "failing" if failing(status) else f"not ready after {waited_s:.0f} s"
    detail = "\n\n".join("\n".join(_paragraph(service)) for service in culprits)
    return NotReadyError(f"{names} {verb} {what}", way_out=_way_out(culprits), detail=detail)


def _paragraph(service: ServiceStatus) -> list[str]:
    lines = [f"{service.name}: {service.reason}", f"  {service.runs}"]
    waiting = [replica for replica in service.replicas if replica.state not in ("ready", "backing-off", "failed")]
    lines += [f"  {replica.id} is {replica.state}: {replica.reason}" for replica in waiting]
    ended = [replica for replica in service.replicas if replica.last_exit is not None]
    if not ended and service.rollout is not None:
        lines += [f"    | {line}" for line in service.rollout.tail[-TAIL_LINES:]]
    if ended:
        last = max(ended, key=lambda replica: replica.last_exit.at if replica.last_exit else 0.0)
        assert last.last_exit is not None
        lines.append(f"  {last.id} ended: {last.last_exit.reason}")
        tail = last.last_exit.tail[-TAIL_LINES:]
        lines += [f"    | {line}" for line in tail]
        hint = way_out_of(last.last_exit, service)
        lines += [f"  -> {hint}"] if hint else []
    return lines


def _way_out(culprits: Sequence[ServiceStatus]) -> str:
    name = culprits[0].name
    return f"more: shoal logs {name}, shoal explain {name}"


def _failed(replica: ReplicaStatus) -> bool:
    return replica.state == "failed" or (replica.crashes > 0 and replica.state not in ("ready", "completed"))
