"""The prober: steady requests during a disturbance, and an exact account of what was lost.

    with prober("http://127.0.0.1:8088", get="/products", post="/carts", body=b'{"product_id": 1}') as probe:
        os.kill(pid, signal.SIGKILL)
    probe.assert_nothing_lost(kinds=[Kind.GET, Kind.KEYED])

Three kinds of requests, as retries treat them: GET, POST, and POST with an Idempotency-Key. Each is sent over
keep-alive connections and, beside them, over a new connection for every request. It runs on an event loop in a thread
of its own, so that a test may block, and paces itself; it waits for answers, never for seconds: a number of them
before the block runs and a number after it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from urllib.parse import urlsplit

from tests.support.http import Answer, Connection, LostError


class Kind(StrEnum):
    GET = "GET"
    POST = "POST"
    KEYED = "POST+Idempotency-Key"


@dataclass(frozen=True)
class Lost:
    """One request without a good answer."""

    kind: Kind
    number: int
    """Which request of all, counted from 1."""
    at_s: float
    """When it was sent: seconds since the prober started."""
    took_s: float
    reason: str
    """`connect: ...`, `reset: ...`, `closed: ...`, `timeout: ...`, or `status 503: ` and the body's start."""
    fresh: bool
    """Whether it was the first request of its connection."""

    def __str__(self) -> str:
        where = "a new connection" if self.fresh else "a kept connection"
        when = f"at {self.at_s:.3f} s, after {self.took_s * 1000:.0f} ms"
        return f"{self.kind} #{self.number} {when} on {where}: {self.reason}"


@dataclass
class Tally:
    """One kind's account. Every request sent is in `ok` or in `lost` once the prober has stopped."""

    sent: int = 0
    ok: int = 0
    lost: list[Lost] = field(default_factory=list)
    replicas: Counter[str] = field(default_factory=Counter)
    """Good answers by `x-shoal-replica`."""
    slowest_s: float = 0.0

    @property
    def answered(self) -> int:
        return self.ok + len(self.lost)


class Prober:
    """Use it as a context manager, plain or `async`; make it with `prober`."""

    def __init__(
        self,
        url: str,
        *,
        get: str,
        post: str,
        body: bytes,
        kinds: Sequence[Kind],
        rate: float,
        limit: int,
        timeout_s: float,
        before: int,
        after: int,
    ) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None, f"{url} names no host and port"
        self._host, self._port = parts.hostname, parts.port
        self._paths = {Kind.GET: get, Kind.POST: post, Kind.KEYED: post}
        self._body = body
        self._rate, self._limit, self._timeout_s = rate, limit, timeout_s
        self._before, self._after = before, after
        self._tallies = {kind: Tally() for kind in kinds}
        self._key = f"prober-{os.urandom(6).hex()}"
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)

    def report(self) -> dict[Kind, Tally]:
        return self._tallies

    def summary(self, limit: int = 10) -> str:
        """A line a kind, and the first `limit` losses of each."""
        lines = []
        for kind, tally in self._tallies.items():
            lines.append(
                f"{kind}: sent {tally.sent}, ok {tally.ok}, lost {len(tally.lost)}, "
                f"slowest {tally.slowest_s * 1000:.0f} ms, by {dict(sorted(tally.replicas.items()))}"
            )
            lines += [f"  {lost}" for lost in tally.lost[:limit]]
            if len(tally.lost) > limit:
                lines.append(f"  and {len(tally.lost) - limit} more")
        return "\n".join(lines)

    def assert_nothing_lost(self, kinds: Iterable[Kind] = tuple(Kind)) -> None:
        """Of these kinds. Of all kinds: that something was sent, and that each request is accounted for."""
        for tally in self._tallies.values():
            assert tally.ok > 0, f"no request was answered well\n{self.summary()}"
            assert tally.sent == tally.answered, f"requests are unaccounted for\n{self.summary()}"
        wanted = set(kinds)
        lost = [lost for kind in wanted & self._tallies.keys() for lost in self._tallies[kind].lost]
        assert not lost, f"{len(lost)} requests were lost\n{self.summary()}"

    def wait_for_answers(self, count: int, *, within_s: float = 60.0) -> None:
        """Until each kind had `count` more answers, good or bad. Raises AssertionError when they do not come."""
        with self._changed:
            goals = {kind: tally.answered + count for kind, tally in self._tallies.items()}
            there = self._changed.wait_for(
                lambda: self._failure is not None or all(self._tallies[k].answered >= n for k, n in goals.items()),
                timeout=within_s,
            )
        if self._failure is not None:
            raise AssertionError("the prober itself failed") from self._failure
        assert there, f"fewer than {count} more answers of each kind in {within_s} s\n{self.summary()}"

    def __enter__(self) -> Prober:
        self._thread.start()
        try:
            self.wait_for_answers(self._before)
        except BaseException:
            self._finish()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait_for_answers(self._after)
        finally:
            self._finish()
        print(self.summary())

    async def __aenter__(self) -> Prober:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def _finish(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2 * self._timeout_s + 5)
        assert not self._thread.is_alive(), "the prober did not stop"

    def _run(self) -> None:
        try:
            asyncio.run(self._probe())
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    async def _probe(self) -> None:
        # Two workers keep their connection for each one that opens a new one every time.
        plan = [(kind, keep) for kind in self._tallies for keep in (True, True, False)]
        interval_s = len(plan) / self._rate
        async with asyncio.TaskGroup() as group:
            for index, (kind, keep) in enumerate(plan):
                delay_s = interval_s * index / len(plan)
                group.create_task(self._work(kind, keep, interval_s, delay_s), name=f"prober-{kind}-{index}")

    async def _work(self, kind: Kind, keep: bool, interval_s: float, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        connection = Connection(self._host, self._port, timeout_s=self._timeout_s)
        due = loop.time() + delay_s
        try:
            while not self._stop.is_set():
                await asyncio.sleep(due - loop.time())
                # A late worker does not catch up: a burst after a pause would be a load test.
                due = max(due, loop.time() - interval_s) + interval_s
                number = next(self._numbers)
                if number > self._limit:
                    return
                await self._send(kind, number, connection)
                if not keep:
                    connection.close()
        finally:
            connection.close()

    async def _send(self, kind: Kind, number: int, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        method = "GET" if kind is Kind.GET else "POST"
        headers = {"Idempotency-Key": f"{self._key}-{number}"} if kind is Kind.KEYED else {}
        tally = self._tallies[kind]
        tally.sent += 1
        fresh = not connection.usable
        started = loop.time()
        if number == 1:
            self._started = started
        try:
            answer = await connection.exchange(
                method, self._paths[kind], b"" if kind is Kind.GET else self._body, headers
            )
            reason = "" if 200 <= answer.status < 300 else _describe(answer)
        except LostError as error:
            answer, reason = None, str(error)
        took_s = loop.time() - started
        with self._changed:
            tally.slowest_s = max(tally.slowest_s, took_s)
            if answer is not None and not reason:
                tally.ok += 1
                tally.replicas[answer.headers.get("x-shoal-replica", "-")] += 1
            else:
                tally.lost.append(Lost(kind, number, started - self._started, took_s, reason, fresh))
            self._changed.notify_all()


def _describe(answer: Answer) -> str:
    return f"status {answer.status}: {answer.body[:200].decode(errors='replace')}"


def prober(
    url: str,
    *,
    get: str = "/",
    post: str = "/",
    body: bytes = b"{}",
    kinds: Sequence[Kind] = tuple(Kind),
    rate: float = 200.0,
    limit: int = 100_000,
    timeout_s: float = 10.0,
    before: int = 50,
    after: int = 100,
) -> Prober:
    """Steady requests to `url` (`http://host:port`), `rate` a second over all kinds, `limit` at most.

    `before` and `after`: how many answers of each kind to wait for before the block begins and after it ended. `body`
    is JSON. A loss is anything but a whole answer with a status of 200 to 299 within `timeout_s`.
    """
    return Prober(
        url,
        get=get,
        post=post,
        body=body,
        kinds=kinds,
        rate=rate,
        limit=limit,
        timeout_s=timeout_s,
        before=before,
        after=after,
    )
