"""The making of a revision: what an event changes in it."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from shoal.model import event as ev
from shoal.model.rollout import Release, ReleaseState


def release_after(
    release: Release | None,
    event: ev.RevisionScheduled | ev.RevisionProgressed | ev.RevisionPrepared | ev.RevisionFailed,
) -> Release:
    if release is None:
        release = Release(service=event.service, revision=event.revision, state=ReleaseState.PREPARING, since=event.at)
    match event:
        case ev.RevisionScheduled():
            return replace(release, state=ReleaseState.PREPARING, since=event.at, progress="", error="", tail=())
        case ev.RevisionProgressed():
            return replace(release, progress=event.message)
        case ev.RevisionPrepared():
            return replace(release, state=ReleaseState.PREPARED, since=event.at, progress="", failures=0)
        case ev.RevisionFailed():
            return replace(
                release,
                state=ReleaseState.FAILED,
                since=event.at,
                progress="",
                error=event.error,
                tail=event.tail,
                failures=release.failures + 1,
            )
        case _:
            assert_never(event)
