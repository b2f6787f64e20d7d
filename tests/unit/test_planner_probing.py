# ruff: noqa: E501  a table with one case a line
"""What probes lead to: out of Envoy, or out of Envoy and then a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.control.journal import describe
from shoal.model import event as ev
from shoal.model.action import DrainReplica, KillReplica, StartReplica, StopReplica
from shoal.model.app import Restart
from shoal.model.health import HealthCheck, Pace, Probe
from shoal.model.replica import Exit, Replica, ReplicaState
from shoal.model.world import Desired, Observed, Proxy, ProxyState, Revision, Routes, Target
from shoal.planner import fold, plan
from shoal.planner.defaults import LATE_S
from shoal.planner.probing import pace
from shoal.testing import apps

NOW = 1000.0
S = ReplicaState
ALIVE = (S.STARTING, S.READY, S.UNREADY)


def world(state: ReplicaState = S.READY, *, routed: bool = True, **more: object) -> Observed:
    fields: dict[str, object] = {"pid": 7, "since": NOW, "ready_since": NOW if state is S.READY else None} | more
    one = Replica(id="web-r1", service="web", number=1, revision=1, state=state, **fields)  # type: ignore[arg-type]
    return Observed(
        replicas={one.id: one},
        proxy=Proxy(state=ProxyState.SERVING, pid=1),
        applied=Routes(version=1, generation=1, replicas=frozenset({one.id} if routed else ())),
        mesh_generation=1,
        next_number={"web": 2},
    )


def wanted(*, revision: int = 1, replicas: int = 1, restart: Restart = Restart.ALWAYS) -> Desired:
    service = apps.service("web", replicas=replicas, restart=restart)
    made = Revision(service=service, number=revision, digest="d", created_at=0.0)
    return Desired(app=apps.app(service), generation=1, targets={"web": Target(revision=made, replicas=replicas)})


def fails(
    observed: Observed,
    probe: Probe,
    times: int = 1,
    *,
    of: int = 3,
    at: float = NOW,
    early: bool = False,
    detail: str = "HTTP 500 on /livez",
) -> Replica:
    for _ in range(times):
        event = ev.ProbeFailed(
            at=at, replica="web-r1", attempt=1, detail=detail, probe=probe, of=of, asked="/livez", early=early
        )
        fold(observed, event)
    return observed.replicas["web-r1"]


def confirm(observed: Observed, at: float) -> None:
    """Envoy routes to nobody any more."""
    fold(observed, ev.SnapshotPublished(at=at, version=2, generation=1, replicas=frozenset()))
    fold(observed, ev.SnapshotApplied(at=at, version=2, replicas=frozenset()))


@pytest.mark.parametrize(
    ("check", "probe", "expected"),
    [
        (HealthCheck(), Probe.READINESS, Pace(interval_s=1, timeout_s=1, failures=3, successes=1, delay_s=0)),
        (HealthCheck(), Probe.LIVENESS, Pace(interval_s=5, timeout_s=5, failures=3, successes=1, delay_s=0)),
        (HealthCheck(), Probe.STARTUP, Pace(interval_s=1, timeout_s=1, failures=120, successes=1, delay_s=0)),
        (HealthCheck(interval_s=10), Probe.STARTUP, Pace(interval_s=10, timeout_s=1, failures=12, successes=1, delay_s=0, written=True)),
        (HealthCheck(command=("x",)), Probe.READINESS, Pace(interval_s=5, timeout_s=5, failures=3, successes=1, delay_s=0)),
        (HealthCheck(timeout_s=2, failures=7, successes=2, delay_s=9), Probe.READINESS, Pace(interval_s=1, timeout_s=2, failures=7, successes=2, delay_s=9)),
    ],
)  # fmt: skip
def test_each_probe_has_numbers_of_its_own(check: HealthCheck, probe: Probe, expected: Pace) -> None:
    assert pace(check, probe) == expected


def test_readiness_that_fails_for_ever_restarts_nobody() -> None:
    observed = world()
    assert fails(observed, Probe.READINESS, 1000).state is S.UNREADY
    assert plan(wanted(), observed, NOW + 86_400).actions == ()


def test_liveness_that_fails_takes_traffic_first_and_restarts_second() -> None:
    observed = world()
    assert fails(observed, Probe.LIVENESS, 2).state is S.READY
    condemned = fails(observed, Probe.LIVENESS)
    words = "liveness probe (/livez) failed 3 times in a row: HTTP 500 on /livez"
    assert (condemned.state, condemned.doomed, condemned.detached_at) == (S.RESTARTING, words, None)
    assert plan(wanted(), observed, NOW + 4.9).actions == ()  # Envoy has not let go of it

    confirm(observed, NOW + 1)
    assert plan(wanted(), observed, NOW + 1.29).actions == ()
    (stop,) = plan(wanted(), observed, NOW + 1.3).actions
    assert stop == StopReplica(replica="web-r1", reason=words)
    fold(observed, ev.StopSent(at=NOW + 1.3, replica="web-r1", forced=False, reason=words))
    assert plan(wanted(), observed, NOW + 11.2).actions == ()
    (kill,) = plan(wanted(), observed, NOW + 11.3).actions
    assert isinstance(kill, KillReplica)
    assert words in kill.reason

    fold(observed, ev.ReplicaExited(at=NOW + 11.4, replica="web-r1", attempt=1, exit=Exit(at=NOW + 11.4, code=-9)))
    ended = observed.replicas["web-r1"]
    assert (ended.state, ended.crashes) == (S.BACKING_OFF, 1)
    assert ended.last_exit is not None
    assert ended.last_exit.reason == words
    (start,) = plan(wanted(), observed, NOW + 11.5).actions
    assert isinstance(start, StartReplica)
    assert start.reason == f"{words}; back-off of 100 ms is over"


def test_an_envoy_that_says_nothing_delays_the_restart_by_five_seconds_only() -> None:
    observed = world()
    fails(observed, Probe.LIVENESS, 3)
    assert [type(action) for action in plan(wanted(), observed, NOW + 5).actions] == [StopReplica]


def test_one_that_envoy_does_not_route_to_is_told_to_end_at_once() -> None:
    observed = world(S.UNREADY, routed=False)
    fails(observed, Probe.LIVENESS, 3)
    assert [type(action) for action in plan(wanted(), observed, NOW + 0.3).actions] == [StopReplica]


def test_a_good_answer_in_between_begins_a_new_streak() -> None:
    observed = world()
    fails(observed, Probe.LIVENESS, 2)
    fold(observed, ev.ProbeSucceeded(at=NOW, replica="web-r1", attempt=1, probe=Probe.LIVENESS))
    assert fails(observed, Probe.LIVENESS, 2).state is S.READY


def test_liveness_counts_once_it_was_ready_unless_it_has_a_delay() -> None:
    assert fails(world(S.STARTING), Probe.LIVENESS, 9).state is S.STARTING
    assert fails(world(S.STARTING), Probe.LIVENESS, 3, early=True).state is S.RESTARTING


def test_a_startup_that_fails_for_good_restarts() -> None:
    observed = world(S.STARTING, ready_since=None, routed=False)
    assert fails(observed, Probe.STARTUP, 9, of=10).state is S.STARTING
    assert fails(observed, Probe.STARTUP, of=10).state is S.RESTARTING


def test_startup_asked_again_after_a_restart_of_the_daemon_takes_a_silent_replica_out() -> None:
    observed = world()
    assert fails(observed, Probe.STARTUP, 3, of=10).state is S.UNREADY
    assert fails(observed, Probe.STARTUP, 7, of=10).state is S.RESTARTING


def test_readiness_may_need_several_good_answers() -> None:
    observed = world(S.STARTING)
    for expected in (S.STARTING, S.STARTING, S.READY):
        fold(observed, ev.ProbeSucceeded(at=NOW, replica="web-r1", attempt=1, of=3))
        assert observed.replicas["web-r1"].state is expected


def test_nothing_brings_a_condemned_replica_back_and_nothing_more_is_told_of_it() -> None:
    observed = world()
    before = fails(observed, Probe.LIVENESS, 3)
    fold(observed, ev.ProbeSucceeded(at=NOW, replica="web-r1", attempt=1))
    assert observed.replicas["web-r1"].state is S.RESTARTING
    again = fails(observed, Probe.LIVENESS, 5, detail="something else")
    assert again.doomed == before.doomed


def test_a_condemned_replica_that_is_not_wanted_any_more_is_drained_and_not_started_again() -> None:
    observed = world()
    fails(observed, Probe.LIVENESS, 3)
    assert [type(action) for action in plan(wanted(replicas=0), observed, NOW + 9).actions] == [DrainReplica]
    stale = plan(wanted(revision=2), observed, NOW + 9).actions
    assert [type(action) for action in stale] == [StartReplica, DrainReplica]


def test_restart_never_holds_for_liveness_too() -> None:
    observed = world(restart=Restart.NEVER)
    fails(observed, Probe.LIVENESS, 3)
    fold(observed, ev.ReplicaExited(at=NOW, replica="web-r1", attempt=1, exit=Exit(at=NOW, code=0)))
    assert observed.replicas["web-r1"].state is S.FAILED


def test_restarts_by_liveness_again_and_again_are_a_crash_loop_with_back_off() -> None:
    observed = world()
    for attempt in range(1, 6):
        one = observed.replicas["web-r1"]
        observed.replicas["web-r1"] = replace(one, attempt=1, state=S.READY, ready_since=NOW, liveness_failures=0)
        fails(observed, Probe.LIVENESS, 3)
        before = observed.replicas["web-r1"]
        exited = ev.ReplicaExited(at=NOW, replica="web-r1", attempt=1, exit=Exit(at=NOW, code=-9))
        fold(observed, exited)
        assert observed.replicas["web-r1"].crashes == attempt
    notes = describe(exited, before, observed.replicas["web-r1"])
    assert (
        notes[1].message
        == "crash loop: liveness probe (/livez) failed 3 times in a row: HTTP 500 on /livez, 5 times in a row"
    )
    assert plan(wanted(), observed, NOW + 1.5).actions == ()  # 1.6 s after five


@pytest.mark.parametrize(("ready_s", "crashes"), [(59.0, 5), (60.0, 1)])
def test_a_minute_of_readiness_earns_a_fresh_back_off_also_for_who_hangs_slowly(ready_s: float, crashes: int) -> None:
    """It is unready for half a minute before it is restarted: that must not count as a minute without readiness."""
    observed = world(crashes=4)
    fails(observed, Probe.READINESS, 3, at=NOW + ready_s)
    fails(observed, Probe.LIVENESS, 1, of=1, at=NOW + ready_s + 30)
    at = NOW + ready_s + 40
    fold(observed, ev.ReplicaExited(at=at, replica="web-r1", attempt=1, exit=Exit(at=at, code=-9)))
    assert observed.replicas["web-r1"].crashes == crashes


def test_the_next_attempt_starts_with_a_clean_record() -> None:
    observed = world()
    fails(observed, Probe.LIVENESS, 3)
    fold(observed, ev.StopSent(at=NOW, replica="web-r1", forced=False, reason="x"))
    fold(observed, ev.ReplicaExited(at=NOW, replica="web-r1", attempt=1, exit=Exit(at=NOW, code=-9)))
    scheduled = ev.ReplicaScheduled(
        at=NOW, replica="web-r1", service="web", number=1, revision=1, generation=0, attempt=2, reason="again"
    )
    fold(observed, scheduled)
    again = observed.replicas["web-r1"]
    assert again.state is S.STARTING
    assert (again.doomed, again.told_at, again.detached_at, again.liveness_failures) == ("", None, None, 0)


def test_a_replica_that_does_not_get_ready_is_told_of_once() -> None:
    observed = world(S.STARTING, ready_since=None)
    fold(observed, ev.ReplicaStarted(at=NOW, replica="web-r1", attempt=1, pid=8, address=None))
    told = []
    for second in range(200):
        before = observed.replicas["web-r1"]
        event = ev.ProbeFailed(at=NOW + second, replica="web-r1", attempt=1, detail="connection refused")
        fold(observed, event)
        told += [note for note in describe(event, before, observed.replicas["web-r1"]) if note.kind == "ReplicaLate"]
    assert [note.message for note in told] == [
        "not ready 60.0 s after its start: connection refused; see shoal logs web-r1"
    ]
    assert observed.replicas["web-r1"].state is S.STARTING
    assert LATE_S == 60


@given(
    events=st.lists(
        st.tuples(st.sampled_from(list(Probe)), st.booleans(), st.integers(1, 4)),
        max_size=60,
    ),
    state=st.sampled_from(ALIVE),
)
def test_only_liveness_and_startup_ever_condemn(events: list[tuple[Probe, bool, int]], state: ReplicaState) -> None:
    observed = world(state)
    streaks = dict.fromkeys(Probe, 0)
    for probe, good, of in events:
        if good:
            streaks[probe] = 0
            fold(observed, ev.ProbeSucceeded(at=NOW, replica="web-r1", attempt=1, probe=probe))
        else:
            streaks[probe] += 1
            fails(observed, probe, of=of)
        if observed.replicas["web-r1"].state is S.RESTARTING:
            assert probe is not Probe.READINESS
            assert streaks[probe] >= of
            return
