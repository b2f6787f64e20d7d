"""The table of who listens: how often it is read, however many ask."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from shoal.engines.local import listening, ownership
from shoal.engines.local.ownership import Listener

PROC = Path("/proc")


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_tables", {})
    monkeypatch.setattr(listening, "_reading", set())


class Machine:
    """Whose table is read again and again: each time with another port, 1, 2, 3; slowly, where it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = 0
        self.may_end = threading.Event()
        self.may_end.set()
        self.now = 100.0
        self.cpu_s = 0.0
        monkeypatch.setattr(ownership, "listeners", self._listeners)
        monkeypatch.setattr(listening.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(listening.time, "thread_time", lambda: self.reads * self.cpu_s)

    def _listeners(self, proc: Path) -> list[Listener]:
        assert self.may_end.wait(30)
        self.reads += 1
        return [Listener(host="127.0.0.1", port=self.reads, uid=0, inode=1)]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def ask() -> frozenset[int]:
    return asyncio.run(listening.ports(PROC))


def test_a_fresh_table_is_shared_and_a_stale_one_read_again(machine: Machine) -> None:
    assert ask() == ask() == {1}
    machine.now += listening.FRESH_S
    assert ask() == {2}


def test_a_table_that_costs_much_is_kept_for_longer(machine: Machine) -> None:
    machine.cpu_s = 0.015
    ask()
    machine.now += 0.74
    assert ask() == {1}
    machine.now += 0.02
    assert ask() == {2}


def test_while_one_reads_the_others_take_the_old_table(machine: Machine) -> None:
    ask()
    machine.now += 1.0
    machine.may_end.clear()

    async def herd() -> tuple[frozenset[int], list[frozenset[int]]]:
        first = asyncio.create_task(listening.ports(PROC))
        await asyncio.sleep(0)
        others = await asyncio.gather(*(listening.ports(PROC) for _ in range(50)))
        machine.may_end.set()
        return await first, others

    first, others = asyncio.run(herd())
    assert first == {2}
    assert set(others) == {frozenset({1})}
    assert machine.reads == 2


def test_a_reader_that_was_given_up_keeps_nobody_from_reading(machine: Machine) -> None:
    ask()
    machine.now += 1.0
    machine.may_end.clear()

    async def given_up() -> None:
        reader = asyncio.create_task(listening.ports(PROC))
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        machine.may_end.set()

    asyncio.run(given_up())
    assert ask() != {1}


def test_the_table_of_a_network_of_its_own_is_read_each_time(machine: Machine) -> None:
    assert asyncio.run(listening.ports(Path("/proc/1"))) == {1}
    assert asyncio.run(listening.ports(Path("/proc/1"))) == {2}
