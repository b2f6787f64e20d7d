"""The status of an app in Prometheus' text format. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from shoal.model.status import AppStatus, ReplicaStatus, ServiceStatus

MEDIA = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    name: str
    kind: str
    help: str
    samples: list[str] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> None:
        told = ",".join(f'{key}="{_escaped(words)}"' for key, words in labels.items())
        self.samples.append(f"{self.name}{{{told}}} {value:.10g}")


def text(status: AppStatus) -> str:
    """A family without samples is left out: what is not known is no number."""
    lines: list[str] = []
    for family in (*_of_services(status), *_of_events(status)):
        if family.samples:
            lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}", *family.samples]
    return "".join(f"{line}\n" for line in lines)


def _of_services(status: AppStatus) -> Iterator[_Family]:
    wanted = _Family(name="shoal_replicas_wanted", kind="gauge", help="Replicas that a service should have.")
    ready = _Family(name="shoal_replicas_ready", kind="gauge", help="Replicas that take requests.")
    restarts = _Family(name="shoal_replica_restarts_total", kind="counter", help="How often a replica began anew.")
    for service in status.services:
        wanted.add(service.wanted, service=service.name)
        ready.add(service.ready, service=service.name)
        for replica in service.replicas:
            restarts.add(_restarts(replica), service=service.name, replica=replica.id)
    yield from (wanted, ready, restarts)


def _of_events(status: AppStatus) -> Iterator[_Family]:
    behind = _Family(name="shoal_events_lag", kind="gauge", help="Events that an inbox has not applied yet.")
    dead = _Family(name="shoal_dead_letters", kind="gauge", help="Events that an inbox could not apply.")
    pending = _Family(name="shoal_outbox_pending", kind="gauge", help="Committed events that are not published yet.")
    oldest = _Family(name="shoal_outbox_oldest_seconds", kind="gauge", help="Age of the oldest of these; 0: none.")
    known = _Family(name="shoal_lag_known", kind="gauge", help="0: the broker or the database did not answer.")
    inboxes = [(service.name, service.inbox) for service in status.services] + [("", one) for one in status.inboxes]
    for name, inbox in inboxes:
        if inbox is not None:
            behind.add(inbox.behind, service=name, consumer=inbox.consumer)
            dead.add(inbox.dead_letters, consumer=inbox.consumer)
    for service in status.services:
        if service.outbox is not None:
            pending.add(service.outbox.pending, service=service.name)
            oldest.add(round(service.outbox.oldest_s, 3), service=service.name)
        if _has_data(service):
            known.add(0 if service.lag_unknown else 1, service=service.name)
    yield from (behind, dead, pending, oldest, known)


def _has_data(service: ServiceStatus) -> bool:
    return service.inbox is not None or service.outbox is not None or bool(service.lag_unknown)


def _restarts(replica: ReplicaStatus) -> int:
    return max(0, replica.attempt - 1)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
