"""How much CPU probing may take, and how the pauses grow where many replicas would take more."""

from __future__ import annotations

from enum import Enum

BUDGET = 0.03
"""Of one core, in steady state. What is left of 5 % is for a machine that has more to do: there a question was measured
to take half as long again. Not in it: reading who listens (`listening.SHARE`), where TCP ports are asked."""


class Cost(Enum):
    """Seconds of CPU that one question is taken to cost: right as parts of each other, and about right on a quiet
    machine. `bench/probe_kinds.py` measured, at a load of 5 to 10 on 2 CPUs: HTTP 0.21 to 0.32 ms, gRPC 2.2 to 3.6, a
    command 1.4 to 2.2 and what it takes itself (`true`: 0.5 to 1.0)."""

    LISTENS = 0.00006
    """Estimated: an answer from the table. Reading that has a bound of its own (`listening.SHARE`)."""
    HTTP = 0.00015
    GRPC = 0.0015
    COMMAND = 0.006
    """Estimated: a shell, and a small program that it starts."""


class Budget:
    """All that is asked of all replicas. A pause that nobody wrote is stretched by one factor for all, so that the sum
    stays within BUDGET: 200 replicas are asked each second, 1,000 every 5 s. A failure is followed up unstretched."""

    def __init__(self) -> None:
        self.asked = 0
        """Questions so far, of all."""
        self._stretched: dict[object, float] = {}
        self._kept: dict[object, float] = {}
        self._sum_stretched = self._sum_kept = 0.0

    def add(self, key: object, cost: Cost, interval_s: float, *, keep: bool) -> None:
        """`keep`: the user wrote the interval, and it stays."""
        self.remove(key)
        share = cost.value / max(interval_s, 0.001)
        if keep:
            self._kept[key] = share
            self._sum_kept += share
        else:
            self._stretched[key] = share
            self._sum_stretched += share

    def remove(self, key: object) -> None:
        self._sum_stretched -= self._stretched.pop(key, 0.0)
        self._sum_kept -= self._kept.pop(key, 0.0)

    @property
    def stretch(self) -> float:
        """1 or more."""
        return max(1.0, self._sum_stretched / max(BUDGET - self._sum_kept, BUDGET / 4))
