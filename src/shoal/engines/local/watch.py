"""The probes of one replica, from its start to its end: startup first, then readiness and liveness side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from shoal.engines.local import stopping
from shoal.engines.local.probe import READY, Result, Target, look_closer, probe, run_command
from shoal.engines.local.probe_budget import Budget
from shoal.engines.local.probed import Probed, Question, question
from shoal.model.app import Protocol
from shoal.model.event import Event, ProbeFailed, ProbeSucceeded
from shoal.model.health import Probe
from shoal.planner.defaults import HUNG_S

PAUSE_S_FIRST = 0.02
PAUSE_GROWTH = 1.3
"""While it boots: the first pause grows to the probe's interval. By a third each time: with doubling, a replica could
have been ready for as long as it took to get there."""
EAGER_PAUSE_S, EAGER_ASKS = 0.03, 100
"""`shoal dev`: so often, for so many times, before the pauses grow; each costs 0.1 ms."""
OWNER_PAUSE_S = 0.3
"""A failure is only looked into when the first moments are over: most replicas just boot."""
NEWS_S = 1.0
"""While it boots, the same words again are told once the pauses have grown to this."""
WORKER_S = 1.0
"""A replica without a port is ready when it has lived this long."""
SUCCESSES_TOLD = 2
"""Successes in a row that are told; the rest would only say that nothing has changed."""
OTHERS_EVERY = 5
"""Its further ports are asked once for so many questions to the first."""
SLICE_S = 1.0
"""Patience is counted in these, not by the clock: a daemon that was itself stopped for a minute learns nothing."""
STILL_S = 5.0
"""Between two looks at whether a process that has nothing to be asked was stopped."""

Put = Callable[[Event], Awaitable[None]]


class Watch:
    """`run` it in a task; whoever cancels that ends all of it."""

    def __init__(
        self, probed: Probed, put: Put, now: Callable[[], float], *, budget: Budget, commands: asyncio.Semaphore
    ) -> None:
        self._probed, self._put, self._now = probed, put, now
        self._budget, self._commands = budget, commands
        self._patience: asyncio.Task[None] | None = None
        self._was_ready = asyncio.Event()
        if probed.found:
            self._was_ready.set()  # it may have been: the planner knows, and lets nothing count that does not

    async def run(self) -> None:
        probed = self._probed
        readiness = question(probed, Probe.READINESS, probed.readiness)
        startup = question(probed, Probe.STARTUP, probed.startup)
        liveness = question(probed, Probe.LIVENESS, probed.liveness)
        try:
            if startup is not None:
                await self._starts(startup)
            works = [self._serves(readiness) if readiness is not None else self._lives()]
            if liveness is not None:
                works.append(self._survives(liveness))
            elif probed.restart_hung and (readiness is None or not _speaks(readiness.target)):
                works.append(self._moves())
            async with asyncio.TaskGroup() as tasks:
                for work in works:
                    tasks.create_task(work, name=f"probe {probed.replica}")
        finally:
            for each in Probe:
                self._budget.remove((self, each))
            self._lose_patience()

    # --- the three probes

    async def _starts(self, asked: Question) -> None:
        """Until it has started. A failure counts once an interval; in between only its words are told."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0 if self._probed.found else asked.pace.delay_s)
        pause_s, told, counted_at = PAUSE_S_FIRST, "", loop.time()
        while True:
            result = await self._ask(asked)
            if result.ready or pause_s >= OWNER_PAUSE_S:
                result = await _looked_into(asked, result)
            if result.ready:
                await self._tell(asked, result)
                return
            if round(loop.time() - counted_at, 3) >= asked.pace.interval_s:
                counted_at = loop.time()
                await self._tell(asked, result)
            elif result.detail != told:
                await self._tell(replace(asked, probe=Probe.READINESS), result)
            told = result.detail
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * PAUSE_GROWTH, asked.pace.interval_s)

    async def _serves(self, asked: Question) -> None:
        """Readiness: of the port that is asked, and of the others now and then."""
        probed, pace = self._probed, asked.pace
        others = probed.targets()
        if asked.target is not None:
            del others[asked.check.port]
        enough = max(SUCCESSES_TOLD, pace.successes)
        self._budget.add((self, asked.probe), asked.cost, pace.interval_s, keep=pace.written)
        # Those that were found are all asked now: spread them.
        await asyncio.sleep(probed.share * min(pace.interval_s, NEWS_S) if probed.found else pace.delay_s)
        successes, turns, pause_s = 0, 0, min(PAUSE_S_FIRST, pace.interval_s)
        booting, others_bad, told = not probed.found, False, ""
        eager = EAGER_ASKS if probed.eager else 0
        while True:
            settling = successes < enough
            result = await self._ask(asked, quiet=not settling)
            self._wonder(asked, result)
            if settling and (result.ready or pause_s >= OWNER_PAUSE_S or not booting):
                result = await _looked_into(asked, result)
            turns += 1
            if result.ready and others and (settling or others_bad or turns % OTHERS_EVERY == 0):
                result = await _all_ready(others, settling=settling)
                others_bad = not result.ready
            if result.ready:
                successes += 1
                if successes <= enough:
                    await self._tell(asked, result)
                first = 0.5 + probed.share / 2 if booting else 1.0
                booting = False
                self._was_ready.set()
                pause_s = self._steady_s(asked) * first if successes >= pace.successes else pace.interval_s
            else:
                # While it boots, the same words again and again are no news.
                if not booting or result.detail != told or pause_s >= min(NEWS_S, pace.interval_s):
                    await self._tell(asked, result)
                successes, told = 0, result.detail
                pause_s = min(pause_s, pace.interval_s) if booting else pace.interval_s
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * PAUSE_GROWTH, pace.interval_s)
            eager -= 1
            if eager > 0 and not result.ready:
                pause_s = min(pause_s, EAGER_PAUSE_S)

    async def _survives(self, asked: Question) -> None:
        """Liveness, once it has been ready; where `delay` is written, that long after its start."""
        probed, pace = self._probed, asked.pace
        early = asked.check.delay_s is not None
        if early and not probed.found:
            await asyncio.sleep(pace.delay_s)
        elif not early:
            await self._was_ready.wait()
        self._budget.add((self, asked.probe), asked.cost, pace.interval_s, keep=pace.written)
        await asyncio.sleep(probed.share * pace.interval_s)
        failing = False
        while True:
            result = await self._ask(asked, quiet=True)
            if not result.ready or failing:
                await self._tell(asked, result, early=early)
            failing = not result.ready
            await asyncio.sleep(pace.interval_s if failing else self._steady_s(asked))

    async def _lives(self) -> None:
        """A worker with nothing to be asked."""
        await asyncio.sleep(WORKER_S)
        probed = self._probed
        await self._put(ProbeSucceeded(at=self._now(), replica=probed.replica, attempt=probed.attempt))

    # --- hung, without `liveness`

    def _wonder(self, asked: Question, result: Result) -> None:
        """Whether it hangs: a question that was not answered at all is asked again, with patience. Of a command that
        failed nobody knows why, so then its port is asked."""
        if result.ready or not (result.silent or asked.target is None):
            self._lose_patience()
        elif self._probed.restart_hung and self._probed.liveness is None and self._patience is None:
            target = asked.target or self._probed.targets().get("")
            if target is not None and _speaks(target):
                self._patience = asyncio.create_task(self._wait_long(target, str(asked.check)))

    def _lose_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    async def _wait_long(self, target: Target, words: str) -> None:
        """One question, over one connection, as long as it takes: so a server of one thread answers in its turn."""
        asking = asyncio.create_task(probe(target, timeout_s=10 * HUNG_S))
        try:
            for _ in range(round(HUNG_S / SLICE_S)):
                await asyncio.wait({asking}, timeout=SLICE_S)
                if asking.done():
                    if not asking.result().silent:
                        return
                    asking = asyncio.create_task(probe(target, timeout_s=10 * HUNG_S))  # its queue was full
                    await asyncio.sleep(SLICE_S)
            await self._tell_hung(f"hung, no answer at all in {HUNG_S:g} s", words)
        finally:
            if self._patience is asyncio.current_task():
                self._patience = None
            asking.cancel()

    async def _moves(self) -> None:
        """Where nothing can be asked that only a live process answers: whether it was stopped, and stays so."""
        still_s = 0.0
        while True:
            await asyncio.sleep(STILL_S)
            still_s = still_s + STILL_S if stopping.is_stopped(self._probed.pid) else 0.0
            if still_s > HUNG_S:
                await self._tell_hung(f"its process was stopped (SIGSTOP) for {HUNG_S:g} s", "")
                still_s = 0.0

    async def _tell_hung(self, detail: str, words: str) -> None:
        probed, now = self._probed, self._now()
        hung = ProbeFailed(
            at=now,
            replica=probed.replica,
            attempt=probed.attempt,
            detail=detail,
            probe=Probe.LIVENESS,
            of=1,
            asked=words,
        )
        await self._put(hung)

    # --- a single question

    async def _ask(self, asked: Question, *, quiet: bool = False) -> Result:
        self._budget.asked += 1
        target = asked.quiet if quiet else asked.target
        if target is not None:
            return await probe(target, timeout_s=asked.pace.timeout_s)
        async with self._commands:
            return await run_command(asked.ask, timeout_s=asked.pace.timeout_s)

    def _steady_s(self, asked: Question) -> float:
        interval_s = asked.pace.interval_s
        return interval_s if asked.pace.written else interval_s * self._budget.stretch

    async def _tell(self, asked: Question, result: Result, *, early: bool = False) -> None:
        now, probed, pace = self._now(), self._probed, asked.pace
        if result.ready:
            await self._put(
                ProbeSucceeded(
                    at=now, replica=probed.replica, attempt=probed.attempt, probe=asked.probe, of=pace.successes
                )
            )
            return
        failed = ProbeFailed(
            at=now,
            replica=probed.replica,
            attempt=probed.attempt,
            detail=result.detail,
            probe=asked.probe,
            of=pace.failures,
            asked=str(asked.check),
            early=early,
        )
        await self._put(failed)


def _speaks(target: Target | None) -> bool:
    """Whether only a live process answers: the kernel alone accepts connections."""
    return target is not None and (target.health is not None or target.protocol is not Protocol.TCP)


async def _looked_into(asked: Question, result: Result) -> Result:
    return result if asked.target is None else await look_closer(asked.target, result)


async def _all_ready(targets: Mapping[str, Target], *, settling: bool) -> Result:
    for name, target in targets.items():
        result = await probe(target if settling else replace(target, quiet=True))
        if result.ready and settling:
            result = await look_closer(target, result)
        if not result.ready:
            return Result(False, f"port {name}: {result.detail}" if name else result.detail, silent=result.silent)
    return READY
