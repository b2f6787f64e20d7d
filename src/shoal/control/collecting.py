"""Which revisions are kept, and the end of the others. Pure but for `Collector`, which the loop runs beside itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from shoal.model.replica import Replica
from shoal.model.rollout import RolloutState
from shoal.model.world import Desired, Revision, Target
from shoal.ports import Engine, Store

KEPT = 10
"""Revisions of a service, the newest: as many as a Deployment of Kubernetes keeps (`revisionHistoryLimit`). Each is a
snapshot of its source, a copy that was built, and often an environment of its own."""


def doomed(
    known: Mapping[str, Sequence[Revision]], desired: Desired, replicas: Iterable[Replica], *, kept: int = KEPT
) -> dict[str, list[int]]:
    """By service, the numbers of what goes. `known`: by service, oldest first.

    What runs, is wanted, or is where a rollout, a deploy or `shoal rollback` would return to stays, however old. So
    does the newest, for numbers go on from there.
    """
    used = {(replica.service, replica.revision) for replica in replicas}
    for name, target in desired.targets.items():
        used |= {(name, number) for number in _needed(target)}
    if desired.stable is not None:
        used |= {(f.revision.service.name, f.revision.number) for f in desired.stable.services}
    return {
        name: gone
        for name, revisions in known.items()
        if (gone := [r.number for r in revisions[:-kept] if (name, r.number) not in used])
    }


def _needed(target: Target) -> Iterable[int]:
    yield target.revision.number
    if target.rollout is not None:
        yield target.rollout.revision
        if target.rollout.fallback is not None:
            yield target.rollout.fallback.revision.number
    done = [o.revision for o in target.outcomes if o.state is RolloutState.COMPLETED]
    yield from [number for number in done if number != target.revision.number][-1:]


class Collector:
    """Removes what no revision that is kept needs: rows, snapshots, builds, environments, old logs."""

    def __init__(self, store: Store, engine: Engine, *, kept: int = KEPT) -> None:
        self.away = asyncio.Lock()
        """Held while it works; and by a deploy, from the snapshots that it takes until their revisions are stored."""
        self._store = store
        self._engine = engine
        self._kept = kept

    async def collect(self, now: Callable[[], tuple[Desired | None, Iterable[Replica]]]) -> None:
        """`now`: what is desired and what there is, when its turn comes. Raises StoreError, EngineError."""
        async with self.away:
            desired, replicas = now()
            if desired is None:
                return
            known = self._store.every_revision()
            gone = doomed(known, desired, replicas, kept=self._kept)
            for service, numbers in gone.items():
                self._store.delete_revisions(service, numbers)
            await self._engine.collect(
                [r for name, revisions in known.items() for r in revisions if r.number not in gone.get(name, ())]
            )
