"""What every store promises in the same way, on a disk or in memory: limits, subjects, refusals."""

from __future__ import annotations

import json
import re

from shoal.errors import StoreError
from shoal.model.world import Revision

JOURNAL_KEPT = 100_000
"""Entries of the journal; the oldest go."""

EDGES = range(2, 65_536)
"""Edge numbers. Not 1: its address, 127.N.0.1, is where the keeper holds the lease of the network."""

_REPLICA = re.compile(r"(.+)-r[0-9]+")


def owner(subject: str) -> str | None:
    """The service whose replica a journal entry is about: `cart-r3` -> `cart`. None: it is about no replica."""
    replica = _REPLICA.fullmatch(subject)
    return replica[1] if replica else None


def clean(text: str) -> str:
    """Lone surrogates (bytes of a log or a file name that are not UTF-8) written out: no disk and no JSON takes
    them."""
    return text.encode("utf-8", "backslashreplace").decode()


def data_as_json(data: dict[str, object]) -> str:
    """Raises TypeError or ValueError for what JSON cannot say; that is a programming error."""
    return json.dumps(data, allow_nan=False, separators=(",", ":"))


def edges_used_up(wanted: int) -> StoreError:
    return StoreError(
        f"all {len(EDGES):,} edge addresses of this app are used up, and {wanted} more are wanted",
        way_out="each call that was ever declared keeps its address; to start over: shoal down, then move .shoal away",
    )


def refuse_another(known_digest: str, revision: Revision) -> None:
    """A revision never changes. Adding the same one again is fine: a deploy may have been cut short."""
    if known_digest != revision.digest:
        raise StoreError(
            f"revision {revision.number} of service '{revision.service.name}' exists with another content",
            way_out="this is a defect of Shoal; please report it with the output of 'shoal events'",
        )
