"""Steady requests from a few threads, each answer or loss with the moment it was sent."""

from __future__ import annotations

import http.client
import itertools
import select
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from shoal.proving.targets import Connection, Target

WORKERS = 8
ANSWER_S_MAX = 20.0
"""Longer than Envoy's own time-out, so that it is Envoy who gives up."""
REASON_MAX = 160


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request."""

    target: Target
    at: float
    """When it was sent, monotonic seconds."""
    took_s: float
    lost: str = ""
    """Why there was no good answer; empty: there was one."""


class Load:
    """`rate` requests a second, over all targets in turn, until the context is left. Half of them over connections that
    are kept, half over a new one each."""

    def __init__(self, targets: Sequence[Target], *, rate: float, workers: int = WORKERS) -> None:
        self._targets = targets
        self._pause_s = workers / rate
        self._workers = workers
        self._outcomes: list[Outcome] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._turn = itertools.count()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"load {number}", daemon=True)
            for number in range(workers)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(ANSWER_S_MAX + 1)

    def take(self) -> list[Outcome]:
        """What ended since the last call."""
        with self._lock:
            taken, self._outcomes = self._outcomes, []
        return taken

    def _work(self, number: int) -> None:
        kept: dict[object, Connection] = {}
        keeps = number % 2 == 0
        # Spread: workers in step would send in bursts.
        self._stop.wait(self._pause_s * number / self._workers)
        while not self._stop.is_set():
            begun = time.monotonic()
            target = self._targets[next(self._turn) % len(self._targets)]
            outcome = _ask(target, kept if keeps else {}, keeps=keeps)
            with self._lock:
                self._outcomes.append(outcome)
            self._stop.wait(max(0.0, self._pause_s - (time.monotonic() - begun)))
        for connection in kept.values():
            connection.close()


def _ask(target: Target, kept: dict[object, Connection], *, keeps: bool) -> Outcome:
    connection = kept.pop(target.address, None)
    if connection is not None and _closed(connection):
        connection.close()
        connection = None
    at = time.monotonic()
    lost = ""
    try:
        connection = connection or Connection(target.address, timeout_s=ANSWER_S_MAX)
        connection.request("GET", target.path, headers={"Host": target.host})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status >= 400:
            words = body[:REASON_MAX].decode("utf-8", "replace")
            lost = f"status {answer.status}: {' '.join(words.split())}".rstrip(": ")
        if keeps and not answer.will_close:
            kept[target.address] = connection
        else:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        lost = f"{type(error).__name__}: {error}".rstrip(": ")
        if connection is not None:
            connection.close()
    return Outcome(target, at, time.monotonic() - at, lost)


def _closed(connection: Connection) -> bool:
    """Whether the other side has ended a connection that was idle: every careful client looks."""
    try:
        return connection.sock is None or bool(select.select([connection.sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True
