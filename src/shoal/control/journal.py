"""The app's history in words: which events are kept, and how they read at 3 a.m."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import assert_never

from shoal.control import rollouts
from shoal.errors import EngineError
from shoal.model import event as ev
from shoal.model.replica import Replica, ReplicaState
from shoal.planner.defaults import CRASH_LOOP
from shoal.planner.healing import words
from shoal.ports import JournalEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A journal entry before the store has numbered it."""

    kind: str
    subject: str
    message: str
    data: dict[str, object]


def _note(event: ev.Event, subject: str, message: str, **data: object) -> Note:
    return Note(kind=type(event).__name__, subject=subject, message=message, data=data)


def describe(event: ev.Event, before: Replica | None, after: Replica | None) -> list[Note]:
    """What to keep of an event. `before` and `after`: the replica it is about, around the fold; None for others.

    A probe is kept only when it changed what is done with a replica; progress never is.
    """
    match event:
        case ev.ReplicaScheduled():
            what = "starts" if event.attempt == 1 else f"starts again (attempt {event.attempt})"
            return [
                _note(
                    event,
                    event.replica,
                    f"{what}: {event.reason}",
                    service=event.service,
                    revision=event.revision,
                    attempt=event.attempt,
                    reason=event.reason,
                )
            ]
        case ev.ReplicaStarted():
            return [_note(event, event.replica, f"runs as pid {event.pid}", pid=event.pid, address=str(event.address))]
        case ev.ProbeSucceeded() | ev.ProbeFailed():
            return _probed(event, before, after)
        case ev.DrainStarted():
            return [_note(event, event.replica, f"drains: {event.reason}", reason=event.reason)]
        case ev.StopSent():
            signal = "SIGKILL" if event.forced else event.signal
            message = f"{signal} sent: {event.reason}"
            return [_note(event, event.replica, message, signal=signal, reason=event.reason)]
        case ev.ReplicaExited():
            return _exited(event, before, after)
        case ev.RevisionScheduled():
            message = f"revision {event.revision} is made ready: {event.reason}"
            return [_note(event, event.service, message, revision=event.revision)]
        case ev.RevisionPrepared():
            return [
                _note(event, event.service, f"revision {event.revision} is ready to start", revision=event.revision)
            ]
        case ev.RevisionFailed():
            message = f"revision {event.revision} cannot be made: {event.error}"
            return [_note(event, event.service, message, revision=event.revision, tail=list(event.tail))]
        case (
            ev.RolloutStarted()
            | ev.RolloutAdvanced()
            | ev.RolloutCompleted()
            | ev.RolloutFailed()
            | ev.RolledBack()
            | ev.RolloutSuperseded()
        ):
            message, more = rollouts.words(event)
            return [_note(event, event.service, message, **more)]
        case ev.ProxyScheduled():
            return [_note(event, "proxy", f"Envoy starts: {event.reason}", attempt=event.attempt)]
        case ev.ProxyStarted():
            return [_note(event, "proxy", f"Envoy runs as pid {event.pid}", pid=event.pid)]
        case ev.ProxyReplacementRequested():
            return [_note(event, "proxy", f"Envoy is to be replaced: {event.reason}")]
        case ev.ProxyReplacementStarted():
            return [_note(event, "proxy", f"another Envoy takes over: {event.reason}")]
        case ev.ProxyReplaced():
            return [_note(event, "proxy", f"Envoy runs as pid {event.pid}, and has taken over", pid=event.pid)]
        case ev.ProxyReplacementFailed():
            message = f"Envoy was not replaced, the old one serves on: {event.exit.reason}"
            return [_note(event, "proxy", message, tail=list(event.exit.tail))]
        case ev.ProxyStopSent():
            return [_note(event, "proxy", f"Envoy is stopped: {event.reason}")]
        case ev.ProxyExited():
            data: dict[str, object] = {"code": event.exit.code, "tail": list(event.exit.tail)}
            return [_note(event, "proxy", f"Envoy ended: {event.exit.reason}", **data)]
        case ev.ResourceRejected():
            message = f"Envoy refused {event.kind} '{event.resource}': {event.message}; its last good version stays"
            return [_note(event, "proxy", message, resource=event.resource, kind=event.kind)]
        case ev.CallDenied():
            message = (
                f"called {event.callee}:{event.port}, which it does not declare; "
                f"allow it by services.{event.caller}.calls: [{event.callee}]"
            )
            return [_note(event, event.caller, message, callee=event.callee, port=event.port)]
        case ev.Deployed():
            parts = []
            if event.changed:
                parts.append("new revisions of " + ", ".join(event.changed))
            if event.removed:
                parts.append("removed " + ", ".join(event.removed))
            message = f"deploy {event.generation}: " + ("; ".join(parts) or "nothing changed")
            changes: dict[str, object] = {"changed": list(event.changed), "removed": list(event.removed)}
            return [_note(event, "app", message, generation=event.generation, **changes)]
        case ev.Scaled():
            return [_note(event, event.service, f"scaled to {event.replicas}", replicas=event.replicas)]
        case ev.RestartRequested():
            return [_note(event, event.service, "a rolling restart was asked for")]
        case ev.DownRequested():
            return [
                _note(event, "app", "goes down at once: requests are not waited for" if event.hurry else "goes down")
            ]
        case ev.DaemonStarted():
            found = f", found {event.adopted} replicas running" if event.adopted else ""
            message = f"Shoal {event.version} runs as pid {event.pid}{found}"
            return [_note(event, "daemon", message, pid=event.pid, adopted=event.adopted)]
        case ev.KeeperLost():
            return [_note(event, "keeper", f"lost: {event.reason}; a new one takes over")]
        case ev.KeeperAttached():
            message = f"attached to keeper pid {event.pid}, {event.adopted} processes go on"
            return [_note(event, "keeper", message, pid=event.pid, adopted=event.adopted)]
        case ev.Warned():
            message = f"{event.message}; {event.way_out}" if event.way_out else event.message
            return [_note(event, event.subject, message)]
        case (
            ev.ReplicaProgressed()
            | ev.ReplicaForgotten()
            | ev.SnapshotPublished()
            | ev.SnapshotApplied()
            | ev.RevisionProgressed()
            | ev.TrafficSampled()
            | ev.RequestsUnderWay()
        ):
            return []
        case _:
            assert_never(event)


def _probed(event: ev.ProbeSucceeded | ev.ProbeFailed, before: Replica | None, after: Replica | None) -> list[Note]:
    if before is None or after is None:
        return []
    if after.late and not before.late:
        took = words(event.at - (after.running_since or event.at))
        message = f"not ready {took} after its start: {after.probe_detail}; see shoal logs {after.id}"
        return [Note(kind="ReplicaLate", subject=after.id, message=message, data={"detail": after.probe_detail})]
    if before.state is after.state:
        return []
    if after.state is ReplicaState.READY:
        took = words(max(0.0, event.at - before.since))
        return [Note(kind="ReplicaReady", subject=after.id, message=f"ready after {took}", data={})]
    if after.state is ReplicaState.RESTARTING and isinstance(event, ev.ProbeFailed):
        message = f"{after.doomed}; out of Envoy, then started again"
        data: dict[str, object] = {"probe": event.probe.value, "asked": event.asked, "detail": event.detail}
        return [Note(kind="ReplicaCondemned", subject=after.id, message=message, data=data)]
    detail = after.probe_detail
    message = f"not ready any more: {detail}; out of Envoy until it answers"
    return [Note(kind="ReplicaUnready", subject=after.id, message=message, data={"detail": detail})]


def _exited(event: ev.ReplicaExited, before: Replica | None, after: Replica | None) -> list[Note]:
    if before is None or after is None or before.state is after.state:
        return []
    verb = {ReplicaState.COMPLETED: "completed", ReplicaState.FAILED: "failed"}.get(after.state, "ended")
    notes = [
        _note(
            event,
            event.replica,
            f"{verb}: {event.exit.reason}",
            code=event.exit.code,
            reason=event.exit.reason,
            attempt=event.attempt,
            tail=list(event.exit.tail),
        )
    ]
    if after.crashes == CRASH_LOOP and after.state is ReplicaState.BACKING_OFF:
        why = after.last_exit.reason if after.last_exit else event.exit.reason
        message = f"crash loop: {why}, {after.crashes} times in a row"
        data: dict[str, object] = {"code": event.exit.code, "tail": list(event.exit.tail)}
        notes.append(Note(kind="CrashLoopDetected", subject=after.id, message=message, data=data))
    return notes


class Feed:
    """New journal entries, to whoever listens. A listener that falls 1,000 entries behind is cut off with an error; it
    can come again and ask the store for what it missed."""

    def __init__(self, backlog: int = 1000) -> None:
        self._backlog = backlog
        self._listeners: set[asyncio.Queue[JournalEntry | None]] = set()

    def publish(self, entry: JournalEntry) -> None:
        for queue in list(self._listeners):
            try:
                queue.put_nowait(entry)
            except asyncio.QueueFull:
                self._listeners.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[JournalEntry]]:
        queue: asyncio.Queue[JournalEntry | None] = asyncio.Queue(self._backlog)
        self._listeners.add(queue)
        try:
            yield _entries(queue)
        finally:
            self._listeners.discard(queue)


async def _entries(queue: asyncio.Queue[JournalEntry | None]) -> AsyncIterator[JournalEntry]:
    while True:
        entry = await queue.get()
        if entry is None:
            raise EngineError("this listener was too slow for the event stream", way_out="ask again, from the last id")
        yield entry
