"""Crash and come back: when a replica, or the proxy, may start again."""

from __future__ import annotations

from shoal.model.app import Restart
from shoal.model.replica import Exit, Replica, Trigger
from shoal.planner.defaults import BACKOFF_S_FIRST, BACKOFF_S_MAX, CRASH_LOOP, FORGIVEN, HEALTHY_S, LASTED_S


def backoff_s(strikes: int) -> float:
    """0.1 s after the first, doubling to 30 s. `strikes`: 0 is as 1."""
    # The exponent is capped before 2.0**n: a replica that crashes for weeks must not overflow a float.
    return min(BACKOFF_S_MAX, BACKOFF_S_FIRST * 2.0 ** min(max(1, strikes) - 1, 16))


def strikes_after(strikes: int, crashes: int, lasted_s: float | None) -> int:
    """The exponent of the next back-off. `strikes`: that of the last one; `crashes`: in a row, this one counted;
    `lasted_s`: how long it was ready, None: not at all.

    Somebody who kills each replica now and then must not find all of them waiting: one that lasts comes back at once.
    But not for ever: what lasts for a second and dies, again and again, would keep a processor busy with its starts.
    """
    early = 1 if lasted(strikes, lasted_s) else strikes + 1
    return max(early, crashes - FORGIVEN)


def lasted(strikes: int, lasted_s: float | None) -> bool:
    """Whether being ready for so long has earned the shortest back-off."""
    return lasted_s is not None and lasted_s >= max(LASTED_S, backoff_s(strikes))


def crashes_after(replica: Replica, at: float) -> int:
    """Crashes in a row, counting the exit at `at`; 1 again after 60 s of readiness."""
    if replica.ready_since is not None and at - replica.ready_since >= HEALTHY_S:
        return 1
    return replica.crashes + 1


def ending(restart: Restart, end: Exit) -> Trigger:
    """What the end of a process that was not asked to end means by its `restart:`."""
    if restart is Restart.ALWAYS:
        return Trigger.EXITED
    if end.code == 0 and not end.error:
        return Trigger.COMPLETED
    return Trigger.EXITED if restart is Restart.ON_FAILURE else Trigger.FAILED


def restarts_at(replica: Replica) -> float:
    """When a BACKING_OFF replica may start again."""
    ended = replica.last_exit.at if replica.last_exit else replica.since
    return ended + backoff_s(replica.strikes)


def in_crash_loop(replica: Replica) -> bool:
    return replica.crashes >= CRASH_LOOP


def words(seconds: float) -> str:
    """`400 ms`, `3.2 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
