"""The jumping clock: exact, ordered, and never stuck without saying why."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.ports import Clock
from shoal.testing import virtual_time
from shoal.testing.virtual_time import EPOCH, DeadlockError, LimitError, SpinError, VirtualClock, VirtualTimeError, run


def now() -> float:
    return asyncio.get_running_loop().time()


def test_the_result_of_the_coroutine_comes_back() -> None:
    async def scenario() -> str:
        return "done"

    assert run(scenario()) == "done"


def test_an_error_of_the_coroutine_comes_through() -> None:
    async def scenario() -> None:
        await asyncio.sleep(5)
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        run(scenario())


def test_time_starts_at_zero_and_jumps_to_each_timer_exactly() -> None:
    async def scenario() -> list[float]:
        seen = [now()]
        for pause in (0.1, 0.2, 3600, 1e-3):
            await asyncio.sleep(pause)
            seen.append(now())
        return seen

    expected = [0.0]
    for pause in (0.1, 0.2, 3600, 1e-3):
        expected.append(expected[-1] + pause)
    assert run(scenario()) == expected


def test_time_stands_still_while_tasks_have_work() -> None:
    async def scenario() -> float:
        for _ in range(1000):
            await asyncio.sleep(0)
        return now()

    assert run(scenario()) == 0.0


def test_the_clock_shows_the_epoch_base_plus_the_loops_time() -> None:
    async def scenario() -> tuple[float, float]:
        clock: Clock = VirtualClock()
        first = clock.now()
        await asyncio.sleep(12.5)
        return first, clock.now()

    assert run(scenario()) == (EPOCH, EPOCH + 12.5)


def test_timeouts_end_waits_at_their_moment() -> None:
    async def scenario() -> list[float]:
        seen = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7):
                await asyncio.Event().wait()
        seen.append(now())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(100), 3)
        seen.append(now())
        await asyncio.wait_for(asyncio.sleep(1), 3)
        seen.append(now())
        return seen

    assert run(scenario()) == [7.0, 10.0, 11.0]


def test_tasks_interleave_by_their_timers() -> None:
    async def scenario() -> list[tuple[float, str]]:
        seen: list[tuple[float, str]] = []

        async def tick(name: str, pause: float) -> None:
            for _ in range(3):
                await asyncio.sleep(pause)
                seen.append((now(), name))

        async with asyncio.TaskGroup() as group:
            group.create_task(tick("slow", 10))
            group.create_task(tick("fast", 4))
        return seen

    assert run(scenario()) == [(4, "fast"), (8, "fast"), (10, "slow"), (12, "fast"), (20, "slow"), (30, "slow")]


@given(st.lists(st.floats(min_value=0, max_value=1000), max_size=30))
def test_sleepers_wake_in_the_order_of_their_times(pauses: list[float]) -> None:
    async def scenario() -> list[tuple[float, float]]:
        woken: list[tuple[float, float]] = []

        async def sleeper(pause: float) -> None:
            await asyncio.sleep(pause)
            woken.append((pause, now()))

        async with asyncio.TaskGroup() as group:
            for pause in pauses:
                group.create_task(sleeper(pause))
        return woken

    woken = run(scenario())
    assert sorted(pauses) == sorted(pause for pause, _ in woken)
    times = [moment for _, moment in woken]
    assert times == sorted(times)
    assert all(abs(moment - pause) <= 1e-9 for pause, moment in woken)


def test_a_deadlock_names_the_tasks_and_where_they_wait() -> None:
    async def scenario() -> None:
        async def waits_for_ever() -> None:
            await asyncio.Event().wait()

        async with asyncio.TaskGroup() as group:
            group.create_task(waits_for_ever(), name="drain cart-service-r3")
            await asyncio.sleep(2)

    with pytest.raises(
        DeadlockError, match=r"at 2 s; .*task 'drain cart-service-r3' waits in .*test_virtual_time.py:\d+"
    ):
        run(scenario())


def test_tasks_left_behind_are_cancelled_and_may_clean_up_in_virtual_time() -> None:
    cleaned: list[float] = []

    async def scenario() -> None:
        async def left_behind() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(5)
                cleaned.append(now())

        task = asyncio.create_task(left_behind())
        await asyncio.sleep(1)
        assert not task.done()

    run(scenario())
    assert cleaned == [6.0]


def test_after_a_deadlock_the_tasks_are_cancelled_too() -> None:
    cleaned: list[str] = []

    async def scenario() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            cleaned.append("yes")

    with pytest.raises(DeadlockError):
        run(scenario())
    assert cleaned == ["yes"]


def test_more_virtual_time_than_the_limit_is_an_error() -> None:
    async def scenario() -> None:
        for _ in itertools.count():
            await asyncio.sleep(60)

    with pytest.raises(LimitError, match=r"not done after 3600 s of virtual time; task 'Task-\d+' waits in scenario"):
        run(scenario(), limit_s=3600)


def test_a_scenario_that_spins_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_time, "SPIN_LIMIT", 500)

    async def scenario() -> None:
        await asyncio.sleep(3)
        for _ in itertools.count():
            await asyncio.sleep(0)

    with pytest.raises(SpinError, match="time still stands at 3 s"):
        run(scenario())


def test_threads_are_refused_in_words() -> None:
    async def scenario() -> None:
        with pytest.raises(VirtualTimeError, match="virtual time knows no threads, and sleeper was to run in one"):
            await asyncio.get_running_loop().run_in_executor(None, sleeper)

    def sleeper() -> None: ...

    sleeper.__qualname__ = "sleeper"
    run(scenario())


def test_a_call_from_another_thread_is_refused() -> None:
    errors: list[BaseException] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        def intrude() -> None:
            try:
                loop.call_soon_threadsafe(lambda: None)
            except VirtualTimeError as error:
                errors.append(error)

        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()

    run(scenario())
    assert len(errors) == 1


def test_sockets_are_refused() -> None:
    async def scenario() -> None:
        await asyncio.open_unix_connection("/nowhere")

    with pytest.raises(NotImplementedError):
        run(scenario())


def test_a_cancelled_timer_does_not_move_the_time() -> None:
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(1000, lambda: None).cancel()
        await asyncio.sleep(1)
        return now()

    assert run(scenario()) == 1.0
