"""The store without a disk: the same promises as `store.sqlite`, kept by the same contract suite."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from shoal.model.replica import Replica
from shoal.model.world import Desired, Revision
from shoal.ports import JournalEntry
from shoal.store.promises import EDGES, JOURNAL_KEPT, clean, data_as_json, edges_used_up, owner, refuse_another


class MemoryStore:
    """Implements `ports.Store`. `fault`, when given, is called with the name of each method before it does anything,
    and may raise StoreError: then nothing was done."""

    def __init__(self, *, fault: Callable[[str], None] | None = None, journal_kept: int = JOURNAL_KEPT) -> None:
        self._fault = fault or (lambda method: None)
        self._desired: Desired | None = None
        self._revisions: dict[str, dict[int, Revision]] = {}
        self._replicas: dict[str, Replica] = {}
        self._next: dict[str, int] = {}
        self._edges: dict[tuple[str, str], int] = {}
        self._settings: dict[str, str] = {}
        self._journal: deque[JournalEntry] = deque(maxlen=journal_kept)
        self._sequence = 0

    def load_desired(self) -> Desired | None:
        self._fault("load_desired")
        return self._desired and replace(self._desired, targets=dict(self._desired.targets))

    def save_desired(self, desired: Desired) -> None:
        self._fault("save_desired")
        self._desired = replace(desired, targets=dict(desired.targets))

    def revisions(self, service: str) -> Sequence[Revision]:
        self._fault("revisions")
        known = self._revisions.get(service, {})
        return [known[number] for number in sorted(known)]

    def add_revision(self, revision: Revision) -> None:
        self._fault("add_revision")
        service = revision.service.name
        known = self._revisions.setdefault(service, {}).setdefault(revision.number, revision)
        refuse_another(known.digest, revision)

    def every_revision(self) -> dict[str, Sequence[Revision]]:
        self._fault("every_revision")
        return {name: [known[n] for n in sorted(known)] for name, known in sorted(self._revisions.items()) if known}

    def delete_revisions(self, service: str, numbers: Collection[int]) -> None:
        self._fault("delete_revisions")
        for number in numbers:
            self._revisions.get(service, {}).pop(number, None)

    def load_replicas(self) -> Sequence[Replica]:
        self._fault("load_replicas")
        return sorted(self._replicas.values(), key=lambda r: (r.service, r.number))

    def save_replica(self, replica: Replica) -> None:
        self._fault("save_replica")
        self._replicas[replica.id] = replica
        self._next[replica.service] = max(self._next.get(replica.service, 1), replica.number + 1)

    def delete_replica(self, replica: str) -> None:
        self._fault("delete_replica")
        self._replicas.pop(replica, None)

    def next_numbers(self) -> dict[str, int]:
        self._fault("next_numbers")
        return dict(self._next)

    def lease_edges(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        self._fault("lease_edges")
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._edges]
        first = EDGES.start + len(self._edges)
        if first + len(new) > EDGES.stop:
            raise edges_used_up(len(new))
        self._edges |= {pair: first + index for index, pair in enumerate(new)}
        return {pair: self._edges[pair] for pair in pairs}

    def get(self, key: str) -> str | None:
        self._fault("get")
        return self._settings.get(key)

    def put(self, key: str, value: str) -> None:
        self._fault("put")
        self._settings[key] = value

    def append(self, at: float, kind: str, subject: str, message: str, data: dict[str, object]) -> JournalEntry:
        self._fault("append")
        # Through JSON and back, as on a disk: tuples become lists, and what is no JSON shows here already.
        plain: dict[str, object] = json.loads(data_as_json(data))
        self._sequence += 1
        entry = JournalEntry(
            sequence=self._sequence,
            at=float(at),
            kind=kind,
            subject=clean(subject),
            message=clean(message),
            data=plain,
        )
        self._journal.append(entry)
        return entry

    def journal(self, *, after: int = 0, limit: int = 1000, subject: str | None = None) -> Sequence[JournalEntry]:
        self._fault("journal")
        entries = [e for e in self._journal if subject is None or subject in (e.subject, owner(e.subject))]
        if after < 0:
            return entries[-min(-after, limit) :] if limit > 0 else []
        return [e for e in entries if e.sequence > after][: max(limit, 0)]
