"""The status of an app as lines of text. Pure: `now` is an argument."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shoal import __version__
from shoal.cli.output import age, clean, count, paint, table
from shoal.model.lag import InboxLag
from shoal.model.status import AppStatus, Explanation, Health, ReplicaStatus, ServiceStatus

if TYPE_CHECKING:
    from shoal.ports import JournalEntry

SERVICES = ("SERVICE", "REVISION", "READY", "STATE", "ADDRESS")
REPLICAS = ("REPLICA", "PID", "AGE", "RESTARTS", "STATE", "REASON")
HEALTH_COLOURS = {
    Health.READY: "green",
    Health.FAILING: "red",
    Health.DEGRADED: "yellow",
    Health.WAITING: "yellow",
    Health.STARTING: "yellow",
    Health.STOPPING: "dim",
    Health.STOPPED: "dim",
    Health.COMPLETED: "green",
}
_COLOURS = {str(health): colour for health, colour in HEALTH_COLOURS.items()}
_REPLICA_COLOURS = {"ready": "green", "unready": "yellow", "starting": "yellow", "backing-off": "red", "failed": "red"}


def service_row(service: ServiceStatus) -> tuple[str, ...]:
    return (
        service.name,
        str(service.revision),
        f"{service.ready}/{service.wanted}",
        service.health.value,
        address(service),
    )


def address(service: ServiceStatus) -> str:
    """Where people reach it, else where the other services do."""
    if service.address is not None:
        return service.address
    return "-" if service.port is None else f"{service.name}:{service.port} (in the mesh)"


def published(service: ServiceStatus) -> list[tuple[str, str]]:
    """Where people reach each of its ports: `users` for the main one, `users:grpc` for a further one."""
    if not service.ports:  # a daemon of an older version
        return [(service.name, service.address)] if service.address else []
    return [
        (service.name if port.port == service.port else f"{service.name}:{port.name}", port.address)
        for port in service.ports
        if port.address
    ]


def services_table(status: AppStatus) -> list[str]:
    if not status.services:
        return ["no services"]
    return table(SERVICES, [service_row(service) for service in status.services], colours=_COLOURS)


ROLLOUTS = ("ROLLOUT", "REVISION", "NEW", "OLD", "STATE", "STEP")
_ROLLOUT_COLOURS = {"preparing": "yellow", "canary": "yellow", "rolling": "yellow", "rolling-back": "red",
                    "completed": "green", "rolled-back": "red", "failed": "red"}  # fmt: skip


def rollouts_table(status: AppStatus) -> list[str]:
    """Those under way; empty when there is none."""
    rows = []
    for service in status.services:
        rollout = service.rollout
        if rollout is None or not rollout.under_way:
            continue
        leads = f"{rollout.previous} -> {rollout.revision}" if rollout.previous else str(rollout.revision)
        step = clean(rollout.reason or rollout.step)
        rows.append((service.name, leads, str(rollout.new), str(rollout.old), rollout.state, step))
    return table(ROLLOUTS, rows, colours=_ROLLOUT_COLOURS) if rows else []


def reasons(status: AppStatus) -> list[str]:
    """A line for each service that is not simply ready."""
    plain = (Health.READY, Health.STOPPED, Health.COMPLETED)
    return [f"{s.name} is {s.health.value}: {clean(s.reason)}" for s in status.services if s.health not in plain]


def lag_notes(status: AppStatus) -> list[str]:
    """A line for each service whose events are behind, or of which that is not known."""
    notes = []
    for service in status.services:
        said = [*(inbox_words(service.inbox, service.name) if service.inbox else ()), *outbox_words(service)]
        notes += [f"{service.name}: {'; '.join(said)}"] if said else []
    for inbox in status.inboxes:
        if said := inbox_words(inbox, "SERVICE"):
            notes.append(f"inbox {clean(inbox.consumer)}: {'; '.join(said)}")
    unknown = dict.fromkeys(clean(line) for service in status.services for line in service.lag_unknown)
    return [*notes, *unknown]


def inbox_words(inbox: InboxLag, service: str) -> list[str]:
    """`12 events behind`, `2 dead letters (shoal exec ...)`; none: it keeps up. `service`: where to look at them."""
    said = [f"{count(inbox.behind, 'event')} behind"] if inbox.behind else []
    if inbox.dead_letters:
        listed = f"shoal exec {service} -- python -m shoal.sdk.dead list --inbox {clean(inbox.consumer)}"
        said.append(f"{count(inbox.dead_letters, 'dead letter')} ({listed})")
    return said


def outbox_words(service: ServiceStatus) -> list[str]:
    """`3 events not yet published, the oldest 12s old`; empty when there is none."""
    outbox = service.outbox
    if outbox is None or not outbox.pending:
        return []
    return [f"{count(outbox.pending, 'event')} not yet published, the oldest {age(outbox.oldest_s)} old"]


def names_note(status: AppStatus) -> list[str]:
    """How services find each other, where it is not the best way; else nothing."""
    if status.names == "names" or not status.names_reason:
        return []
    why = clean(status.names_reason)
    if status.names == "hosts":
        return [f"services have their names in an /etc/hosts for all, so that nobody knows who calls: {why}"]
    return [f"services find each other by variables only: {why}"]


def app_view(status: AppStatus) -> list[str]:
    """`shoal status`."""
    health = paint(status.health.value, HEALTH_COLOURS[status.health])
    lines = [
        f"{status.app or 'no app'} is {health}: {clean(status.reason)}",
        paint(f"deploy {status.generation}, {clean(status.folder)}", "dim"),
        "",
        *services_table(status),
    ]
    if rolling := rollouts_table(status):
        lines += ["", *rolling]
    if status.gateway is not None:
        lines += ["", f"gateway  {status.gateway.address}", *(f"  {line}" for line in routes(status))]
    notes = reasons(status)
    notes += [
        f"job {j.name} failed: {clean(j.reason)}; shoal jobs {j.name}" for j in status.jobs if j.state == "failed"
    ]
    notes += [f"{s.name} fails on purpose ('fault'), {clean(fault)}" for s in status.services for fault in s.faults]
    notes += lag_notes(status)
    notes += names_note(status)
    if status.proxy.state != "serving":
        notes.append(
            f"Envoy is {status.proxy.state}" + (f": {clean(status.proxy.reason)}" if status.proxy.reason else "")
        )
    notes += [f"Envoy refused {clean(name)}: {clean(why)}" for name, why in status.proxy.rejected.items()]
    if status.version != __version__:
        notes.append(f"the daemon is Shoal {clean(status.version)}, this is {__version__}; down and up makes them one")
    return [*lines, "", *notes] if notes else lines


def routes(status: AppStatus) -> list[str]:
    """The gateway's routes, aligned: where from, where to."""
    entries = status.gateway.routes if status.gateway else ()
    shown = [((route.host or "") + route.path, route.service) for route in entries]
    width = max((len(path) for path, _ in shown), default=0)
    return [f"{path.ljust(width)}  {service}" for path, service in shown]


def addresses(status: AppStatus) -> list[str]:
    """Where everything is reached, once it is up."""
    rows = [("gateway", status.gateway.address)] if status.gateway else []
    rows += [row for service in status.services for row in published(service)]
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"  {name.ljust(width)}  {where}" for name, where in rows]
    if status.gateway:
        lines[1:1] = [f"    {line}" for line in routes(status)]
    return lines


def replica_row(replica: ReplicaStatus, now: float) -> tuple[str, ...]:
    return (
        replica.id,
        str(replica.pid or "-"),
        age(now - replica.since),
        str(max(0, replica.attempt - 1)),
        replica.state,
        clean(replica.reason),
    )


def replicas_table(replicas: Sequence[ReplicaStatus], now: float) -> list[str]:
    """`shoal ps`. The age is that of the state."""
    if not replicas:
        return ["no replicas"]
    return table(REPLICAS, [replica_row(replica, now) for replica in replicas], colours=_REPLICA_COLOURS)


def explanation_view(explanation: Explanation, now: float) -> list[str]:
    """`shoal explain`."""
    service = explanation.service
    lines = [
        f"{service.name} is {paint(service.health.value, HEALTH_COLOURS[service.health])}: {clean(service.reason)}",
        paint(f"{clean(service.runs)}, revision {service.revision}, {address(service)}", "dim"),
        "",
        *replicas_table(service.replicas, now),
    ]
    for replica in service.replicas:
        if replica.last_exit is not None:
            ended = replica.last_exit
            lines += ["", f"{replica.id} last ended {age(now - ended.at)} ago: {clean(ended.reason)}"]
            lines += [f"    {clean(line)}" for line in ended.tail]
    if service.rollout is not None:
        rollout = service.rollout
        words = f"{rollout.cause}, revision {rollout.revision}, {age(now - rollout.started_at)} ago: {rollout.step}"
        lines += ["", f"Last rollout: {clean(words)}"]
        if rollout.reason:
            lines += [f"  it failed: {clean(rollout.reason)}", *(f"    {clean(line)}" for line in rollout.tail)]
    lines += _events(service)
    lines += ["", "Now:" if explanation.decisions or explanation.waits else "Now: nothing to do"]
    lines += [f"  {clean(decision)}" for decision in explanation.decisions]
    lines += [f"  waits: {clean(wait)}" for wait in explanation.waits]
    if explanation.reaches:
        lines += ["", "Calls:"]
        for name, where in explanation.reaches.items():
            own = [s for s in explanation.edges.get(name, ()) if s.source == "edge"]
            said = ", ".join(f"{setting.name} {clean(setting.value)}" for setting in own)
            lines.append(f"  {name} at {where}" + (f", with its own {said}" if said else ""))
    lines += ["", "Called by: " + (", ".join(explanation.called_by) or "no service")]
    lines += [
        "",
        *table(("SETTING", "VALUE", "FROM"), [(s.name, clean(s.value), s.source) for s in explanation.settings]),
    ]
    return lines


def _events(service: ServiceStatus) -> list[str]:
    """What comes in and what goes out, also when there is nothing to worry about; empty: it takes no part in events."""
    lines = []
    if service.inbox is not None:
        lines.append("Events in: " + ("; ".join(inbox_words(service.inbox, service.name)) or "all applied"))
    if service.outbox is not None:
        lines.append("Events out: " + ("; ".join(outbox_words(service)) or "all published"))
    lines += [f"Events: {clean(line)}" for line in service.lag_unknown]
    return ["", *lines] if lines else []


def entry_line(entry: JournalEntry) -> str:
    """`2026-11-23 14:03:07  cart-service-r1  ended: exit code 1`, in local time."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
    return f"{paint(stamp, 'dim')}  {entry.subject}  {clean(entry.message)}"


def summary(status: AppStatus) -> str:
    """`3 services, 9 replicas`."""
    ready = sum(service.ready for service in status.services)
    return f"{count(len(status.services), 'service')}, {count(ready, 'replica')}"
