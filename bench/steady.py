"""Steady requests while something is disturbed, each of them kept: what was lost, how slow, and until when.

Unlike `bench.load` it does not press: what counts is what becomes of each request. GET, and POST with an
Idempotency-Key, over kept connections and over new ones, from an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

from tests.support.http import Connection, LostError

from bench.processes import wait_until

RATE = 160.0
"""Requests a second, of all kinds."""
TIMEOUT_S = 20.0
"""Longer than any of those before the app gives a request, so that each loss is theirs to tell."""
SLOW_S = 0.25
"""An answer of an undisturbed one takes some 5 ms; on a busy machine now and then ten times that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request that came to an end."""

    kind: str
    at: float
    """When it was sent; `time.monotonic`, as all times here."""
    took_s: float
    lost: str = ""
    """Why there was no good answer; empty: there was one."""
    pid: int = 0
    """Of the replica that answered; 0: nobody did."""

    @property
    def done_at(self) -> float:
        return self.at + self.took_s


def lost(requests: Iterable[Sent]) -> int:
    return sum(1 for request in requests if request.lost)


def slow(requests: Iterable[Sent], slow_s: float = SLOW_S) -> int:
    """Of those with a good answer."""
    return sum(1 for request in requests if not request.lost and request.took_s > slow_s)


def slowest_s(requests: Iterable[Sent]) -> float:
    """Of those with a good answer; 0: there is none."""
    return max((request.took_s for request in requests if not request.lost), default=0.0)


def troubled_s(requests: Iterable[Sent], since: float, slow_s: float = SLOW_S) -> float:
    """From then until the last request was sent that came to be lost or slow; 0: there was none since."""
    troubled = [request.at for request in requests if request.lost or request.took_s > slow_s]
    return max(since, *troubled, since) - since


def first_answer_s(requests: Iterable[Sent], since: float, known: Collection[int]) -> float | None:
    """From then to the first good answer of a replica that is not among the known ones. None: there was none."""
    ends = [r.done_at for r in requests if r.done_at >= since and r.pid and not r.lost and r.pid not in known]
    return min(ends) - since if ends else None


class Steady:
    """A context manager; `requests` is whole once it was left, and grows until then."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None, url
        self._host, self._port = parts.hostname, parts.port
        self.requests: list[Sent] = []
        self._stop = threading.Event()
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="steady load", daemon=True)

    def __enter__(self) -> Steady:
        self._thread.start()
        try:
            self.wait_for(lambda: len(self.requests) >= RATE / 4, "answers before the disturbance")
        except BaseException:
            self._finish()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish()
        if self._failure and error is None:
            raise RuntimeError("the load itself failed") from self._failure[0]

    def wait_for(self, condition: Callable[[], object], what: str, *, within_s: float = 30.0) -> None:
        """RuntimeError: it did not come true, or the load itself failed."""
        wait_until(lambda: self._failure or condition(), what, within_s=within_s)
        if self._failure:
            raise RuntimeError("the load itself failed") from self._failure[0]

    def pids(self) -> set[int]:
        """Who has answered so far."""
        return {request.pid for request in self.requests.copy() if request.pid}

    def _finish(self) -> None:
        self._stop.set()
        self._thread.join(2 * TIMEOUT_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:  # told where somebody waits
            self._failure.append(error)

    async def _work(self) -> None:
        """Each request is sent when it is due, however many wait: else those that wait for a hung replica would keep
        others from being sent to it, and the worst would look best. RATE x TIMEOUT_S wait at the most."""
        kept: list[Connection] = []
        try:
            due = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for number in itertools.count(1):
                    await asyncio.sleep(due - time.monotonic())
                    if self._stop.is_set():
                        return
                    due = max(due, time.monotonic() - 1 / RATE) + 1 / RATE  # after a pause it does not catch up
                    group.create_task(self._one(number, kept), name=f"request {number}")
        finally:
            for connection in kept:
                connection.close()

    async def _one(self, number: int, kept: list[Connection]) -> None:
        kind, keep = ("GET", "POST")[number % 2], number // 2 % 2 == 0
        connection = kept.pop() if keep and kept else Connection(self._host, self._port, timeout_s=TIMEOUT_S)
        try:
            self.requests.append(await self._ask(kind, number, connection))
        finally:
            if keep and connection.usable:
                kept.append(connection)
            else:
                connection.close()

    async def _ask(self, kind: str, number: int, connection: Connection) -> Sent:
        headers, body = ({}, b"") if kind == "GET" else ({"Idempotency-Key": f"k-{number}"}, b"{}")
        at, pid, why = time.monotonic(), 0, ""
        try:
            answer = await connection.exchange(kind, "/", body, headers)
            pid = int(answer.headers.get("x-pid", 0))
            why = "" if answer.status == 200 else f"status {answer.status}"
        except LostError as error:
            why = str(error)
        return Sent(kind=kind, at=at, took_s=time.monotonic() - at, lost=why, pid=pid)
