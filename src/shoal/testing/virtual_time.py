"""An asyncio event loop whose clock jumps: hours of back-off pass in milliseconds, and always in the same order.

    async def scenario() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert run(scenario()) == 3600.0

When nothing is ready to run, time moves to the next timer at once. Tasks, `sleep`, `timeout`, `wait_for`, queues, locks
and events work as ever. Threads, sockets, subprocesses and signals do not: what they bring arrives in real time, which
this loop never waits for. Whoever tries gets an error that says so.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio import base_events
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

EPOCH = 1_700_000_000.0
"""What a `VirtualClock` shows when the loop starts: a day in November 2023."""

SPIN_LIMIT = 1_000_000
"""Turns of the loop without time moving, after which it counts as spinning."""


class VirtualTimeError(RuntimeError):
    """The scenario cannot go on; the message names the pending tasks and the lines they wait on."""


class DeadlockError(VirtualTimeError):
    """Every task waits, and no timer is left that could wake one."""


class LimitError(VirtualTimeError):
    """The scenario took more virtual time than it may."""


class SpinError(VirtualTimeError):
    """The scenario runs on and on at the same moment: a loop around `sleep(0)`, or two tasks that only wake each
    other."""


def run(coro: Coroutine[Any, Any, T], *, limit_s: float = 3600 * 24) -> T:
    """Runs a coroutine to its end on a loop of its own, whose `time()` starts at 0, and gives back its result.

    Tasks that it leaves behind are cancelled. Raises what the coroutine raises, and DeadlockError, LimitError (virtual
    time went past `limit_s`) or SpinError.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(limit_s=limit_s)) as runner:
        return runner.run(coro)


class VirtualClock:
    """`ports.Clock` on the running loop's virtual time: `EPOCH` plus the loop's seconds. Only inside of `run`."""

    def now(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()


class VirtualLoop(base_events.BaseEventLoop):
    """The loop itself. Its selector, where other loops sleep, moves the time instead."""

    def __init__(self, *, limit_s: float = 3600 * 24) -> None:
        super().__init__()
        self._now = 0.0
        self._limit_s = limit_s
        self._turns = 0
        self._home = threading.get_ident()
        self._selector = _Jump(self._jump)

    def time(self) -> float:
        return self._now

    def _jump(self, timeout: float | None) -> None:
        """Called where the loop has run all that was ready; `timeout` is None when it has no timer either."""
        if timeout == 0:
            self._turns += 1
            if self._turns > SPIN_LIMIT:
                self._turns = 0
                self._give_up(SpinError, f"{SPIN_LIMIT:,} turns of the loop and time still stands at {self._now:g} s")
            return
        if timeout is None:
            self._give_up(DeadlockError, f"nothing can happen any more at {self._now:g} s")
        # Straight to the timer's moment: adding the timeout would miss it by a rounding error now and then.
        moment: float = self._scheduled[0]._when  # type: ignore[attr-defined]
        if moment > self._limit_s:
            limit, self._limit_s = self._limit_s, float("inf")  # the clean-up that follows may wait too
            self._give_up(LimitError, f"not done after {limit:g} s of virtual time")
        self._turns = 0
        self._now = max(self._now, moment)

    def _give_up(self, error: type[VirtualTimeError], what: str) -> NoReturn:
        pending = sorted(_describe(task) for task in asyncio.all_tasks(self))
        raise error("; ".join([what, *(pending or ["no task is pending"])]))

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        # call_soon_threadsafe ends here. From the loop's own thread it is call_soon by another name.
        if threading.get_ident() != self._home:
            raise VirtualTimeError("virtual time knows no other threads; call the loop from its own")

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> NoReturn:  # type: ignore[override]
        raise VirtualTimeError(
            f"virtual time knows no threads, and {getattr(func, '__qualname__', func)} was to run in one; "
            "inject a fake that answers without"
        )


class _Jump:
    """The one method of a selector that `_run_once` uses."""

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        self._jump = jump

    def select(self, timeout: float | None) -> list[Any]:
        self._jump(timeout)
        return []


def _describe(task: asyncio.Task[Any]) -> str:
    """`task 'drain' waits in step (world.py:41)`"""
    stack = task.get_stack(limit=1)
    if not stack:
        return f"task '{task.get_name()}' waits"
    code, line = stack[-1].f_code, stack[-1].f_lineno
    return f"task '{task.get_name()}' waits in {code.co_name} ({code.co_filename.rpartition('/')[2]}:{line})"
