"""The planner's decisions, as tables of worlds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.model import event as ev
from shoal.model.action import (
    DrainReplica,
    ForgetReplica,
    KillReplica,
    ReplaceProxy,
    StartProxy,
    StartReplica,
    StopProxy,
    StopReplica,
)
from shoal.model.app import App
from shoal.model.replica import Exit, Replica, ReplicaState, UnixAddress
from shoal.model.world import Desired, Observed, Proxy, ProxyState, Revision, Routes, Target
from shoal.planner import fold, plan
from shoal.planner.defaults import BACKOFF_S_MAX, LASTED_S
from shoal.planner.healing import backoff_s, restarts_at
from shoal.testing import apps

NOW = 1000.0
SERVING = Proxy(state=ProxyState.SERVING, pid=1, since=0.0, attempt=1)


def wanted(app: App, *, revision: int = 1, generation: int = 0, down: bool = False, **counts: int) -> Desired:
    targets = {
        s.name: Target(
            revision=Revision(service=s, number=revision, digest=str(revision), created_at=0.0),
            replicas=counts.get(s.name, s.replicas),
            generation=generation,
        )
        for s in app.services
    }
    return Desired(app=app, generation=1, targets=targets, at=0.0, down=down)


def replica(service: str, number: int, state: ReplicaState = ReplicaState.READY, **more: object) -> Replica:
    fields: dict[str, object] = {
        "revision": 1,
        "since": 0.0,
        "ready_since": 0.0 if state is ReplicaState.READY else None,
        "address": UnixAddress(path=f"/{service}{number}"),
        "pid": 100 + number,
    } | more
    return Replica(id=f"{service}-r{number}", service=service, number=number, state=state, **fields)  # type: ignore[arg-type]


def world(*replicas: Replica, proxy: Proxy = SERVING, mesh_generation: int = 1) -> Observed:
    routed = frozenset(r.id for r in replicas if r.state is ReplicaState.READY)
    numbers: dict[str, int] = {}
    for r in replicas:
        numbers[r.service] = max(numbers.get(r.service, 1), r.number + 1)
    return Observed(
        replicas={r.id: r for r in replicas},
        proxy=proxy,
        applied=Routes(version=1, generation=mesh_generation, replicas=routed),
        mesh_generation=mesh_generation,
        next_number=numbers,
    )


def test_nothing_deployed_means_nothing_to_do() -> None:
    assert plan(None, Observed(), NOW).actions == ()


def test_the_proxy_starts_first_and_replicas_wait_for_its_edges() -> None:
    decided = plan(wanted(apps.app("web")), Observed(), 1.0)
    assert [type(a) for a in decided.actions] == [StartProxy]
    assert decided.waits[0].subject == "web"
    assert "edges" in decided.waits[0].reason


def test_a_proxy_that_never_comes_up_does_not_keep_the_app_down() -> None:
    observed = world(mesh_generation=0, proxy=Proxy(state=ProxyState.STARTING))
    decided = plan(wanted(apps.app("web")), observed, 10.0)
    assert [type(a) for a in decided.actions] == [StartReplica]


def test_all_services_start_in_parallel() -> None:
    decided = plan(wanted(apps.app("web", "cart"), web=2, cart=1), world(), NOW)
    assert [(a.replica, a.reason) for a in decided.actions if isinstance(a, StartReplica)] == [
        ("web-r1", "2 of 2 replicas missing"),
        ("web-r2", "2 of 2 replicas missing"),
        ("cart-r1", "1 of 1 replicas missing"),
    ]


def test_after_holds_back_the_first_start_until_the_other_is_ready() -> None:
    app = apps.app(apps.service("db"), apps.service("web", port=3001, after=("db",)))
    waiting = plan(wanted(app), world(replica("db", 1, ReplicaState.STARTING)), NOW)
    assert waiting.actions == ()
    assert [w.reason for w in waiting.waits] == ["after: waits for a ready replica of db"]
    started = plan(wanted(app), world(replica("db", 1)), NOW)
    assert [a.replica for a in started.actions if isinstance(a, StartReplica)] == ["web-r1"]


def test_after_does_not_hold_back_a_replica_that_comes_back() -> None:
    app = apps.app(apps.service("db"), apps.service("web", port=3001, replicas=2, after=("db",)))
    observed = world(replica("db", 1, ReplicaState.UNREADY), replica("web", 1))
    assert [a.replica for a in plan(wanted(app), observed, NOW).actions if isinstance(a, StartReplica)] == ["web-r2"]


def test_a_number_is_never_used_again() -> None:
    observed = world()
    observed.next_number["web"] = 8
    (action,) = plan(wanted(apps.app("web")), observed, NOW).actions
    assert isinstance(action, StartReplica)
    assert action.replica == "web-r8"


@pytest.mark.parametrize(
    ("crashes", "delay"), [(1, 0.1), (2, 0.2), (3, 0.4), (9, 25.6), (10, 30.0), (11, 30.0), (10_000, 30.0)]
)
def test_the_back_off_doubles_from_100_ms_to_30_s(crashes: int, delay: float) -> None:
    assert backoff_s(crashes) == pytest.approx(delay)


def test_a_crashed_replica_comes_back_after_its_back_off_and_says_why() -> None:
    crashed = replica(
        "web", 1, ReplicaState.BACKING_OFF, crashes=3, strikes=3, attempt=3, last_exit=Exit(at=NOW, code=1)
    )
    early = plan(wanted(apps.app("web")), world(crashed), NOW + 0.39)
    assert early.actions == ()
    assert early.wake_at == pytest.approx(NOW + 0.4)
    assert early.waits[0].reason == "exit code 1; starts again after a back-off of 400 ms after 3 crashes in a row"
    (action,) = plan(wanted(apps.app("web")), world(crashed), NOW + 0.4).actions
    assert isinstance(action, StartReplica)
    assert (action.replica, action.attempt, action.reason) == ("web-r1", 4, "exit code 1; back-off of 400 ms is over")


def test_scaling_down_drains_the_least_useful_first() -> None:
    observed = world(replica("web", 1), replica("web", 2, ReplicaState.STARTING), replica("web", 3))
    one = plan(wanted(apps.app("web"), web=2), observed, NOW)
    assert [a.replica for a in one.actions if isinstance(a, DrainReplica)] == ["web-r2"]
    two = plan(wanted(apps.app("web"), web=1), observed, NOW)
    assert [a.replica for a in two.actions if isinstance(a, DrainReplica)] == ["web-r2", "web-r3"]


def test_a_draining_replica_is_stopped_only_after_envoy_let_go_of_it() -> None:
    draining = replica("web", 1, ReplicaState.DRAINING, since=NOW)
    desired = wanted(apps.app("web"), web=0)
    assert plan(desired, world(draining), NOW + 4.9).actions == ()
    detached = replace(draining, detached_at=NOW + 1)
    assert plan(desired, world(detached), NOW + 1.29).actions == ()
    (action,) = plan(desired, world(detached), NOW + 1.3).actions
    assert action == StopReplica(replica="web-r1", reason="drained")


def test_an_envoy_that_never_answers_delays_a_stop_by_five_seconds_only() -> None:
    draining = replica("web", 1, ReplicaState.DRAINING, since=NOW)
    (action,) = plan(wanted(apps.app("web"), web=0), world(draining), NOW + 5.0).actions
    assert isinstance(action, StopReplica)
    assert "did not confirm" in action.reason


def test_sigkill_follows_ten_seconds_after_sigterm() -> None:
    stopping = replica("web", 1, ReplicaState.STOPPING, since=NOW)
    desired = wanted(apps.app("web"), web=0)
    assert plan(desired, world(stopping), NOW + 9.9).actions == ()
    (action,) = plan(desired, world(stopping), NOW + 10).actions
    assert isinstance(action, KillReplica)


def test_what_is_gone_is_forgotten() -> None:
    gone = replica("web", 1, ReplicaState.GONE)
    actions = plan(wanted(apps.app("web")), world(gone), NOW).actions
    assert ForgetReplica(replica="web-r1", reason="its process has ended") in actions


def test_a_removed_service_is_drained() -> None:
    actions = plan(wanted(apps.app("web")), world(replica("web", 1), replica("old", 1)), NOW).actions
    assert actions == (DrainReplica(replica="old-r1", reason="its service was removed from the app"),)


def test_a_rolling_update_starts_one_more_before_it_takes_one_away() -> None:
    desired = wanted(apps.app(apps.service("web", replicas=3)), revision=2)
    old = [replica("web", n) for n in (1, 2, 3)]
    first = plan(desired, world(*old), NOW)
    assert [(a.replica, a.revision) for a in first.actions if isinstance(a, StartReplica)] == [("web-r4", 2)]
    assert not any(isinstance(a, DrainReplica) for a in first.actions)

    fresh = replica("web", 4, revision=2, ready_since=NOW)
    assert plan(desired, world(*old, fresh), NOW + 0.9).actions == ()  # not settled yet
    third = plan(desired, world(*old, fresh), NOW + 1.0)
    assert [a.replica for a in third.actions if isinstance(a, DrainReplica)] == ["web-r1"]


def test_a_restart_replaces_replicas_of_the_same_revision() -> None:
    desired = wanted(apps.app("web"), generation=1)
    (action,) = plan(desired, world(replica("web", 1)), NOW).actions
    assert isinstance(action, StartReplica)
    assert action.generation == 1


def test_a_new_revision_that_never_gets_ready_leaves_the_old_one_serving() -> None:
    desired = wanted(apps.app(apps.service("web", replicas=2)), revision=2)
    broken = replica("web", 3, ReplicaState.BACKING_OFF, revision=2, crashes=9, last_exit=Exit(at=NOW, code=1))
    decided = plan(desired, world(replica("web", 1), replica("web", 2), broken), NOW)
    assert decided.actions == ()


def test_down_drains_everything_and_stops_the_proxy_last() -> None:
    desired = wanted(apps.app("web"), down=True)
    assert [type(a) for a in plan(desired, world(replica("web", 1)), NOW).actions] == [DrainReplica]
    assert [type(a) for a in plan(desired, world(), NOW).actions] == [StopProxy]
    assert plan(desired, world(proxy=Proxy(state=ProxyState.STOPPED)), NOW).finished


def test_a_proxy_that_serves_hands_over_once_when_another_is_wanted() -> None:
    desired = wanted(apps.app(apps.service("web")))
    observed = world(replica("web", 1), proxy=replace(SERVING, state=ProxyState.STARTING))
    fold(observed, ev.ProxyReplacementRequested(at=NOW, reason="Envoy 2 is installed, 1 runs"))
    assert not [a for a in plan(desired, observed, NOW).actions if isinstance(a, ReplaceProxy)]
    observed.proxy = replace(observed.proxy, state=ProxyState.SERVING)
    (action,) = plan(desired, observed, NOW).actions
    assert action == ReplaceProxy(reason="Envoy 2 is installed, 1 runs")
    fold(observed, ev.ProxyReplacementStarted(at=NOW, reason=action.reason))
    assert not plan(desired, observed, NOW).actions
    fold(observed, ev.ProxyReplacementFailed(at=NOW, exit=Exit(at=NOW, code=-6)))
    assert (observed.proxy.pid, observed.proxy.replacing) == (1, False)
    fold(observed, ev.ProxyReplaced(at=NOW, pid=2))
    assert (observed.proxy.pid, observed.proxy.state) == (2, ProxyState.SERVING)


def test_a_crashed_proxy_starts_again_after_its_back_off() -> None:
    crashed = Proxy(state=ProxyState.BACKING_OFF, since=NOW, crashes=1, attempt=1, last_error="killed by signal 9")
    desired = wanted(apps.app("web"))
    assert plan(desired, world(replica("web", 1), proxy=crashed), NOW + 0.05).wake_at == pytest.approx(NOW + 0.1)
    assert plan(desired, world(replica("web", 1), proxy=crashed), NOW + 0.1).actions == (
        StartProxy(attempt=2, reason="killed by signal 9; back-off is over"),
    )


# --- fold


def test_three_failed_probes_take_a_replica_out_and_one_good_brings_it_back() -> None:
    observed = world(replica("web", 1))
    for n in range(3):
        assert observed.replicas["web-r1"].state is ReplicaState.READY
        fold(observed, ev.ProbeFailed(at=NOW + n, replica="web-r1", attempt=1, detail="HTTP 503"))
    assert observed.replicas["web-r1"].state is ReplicaState.UNREADY
    fold(observed, ev.ProbeSucceeded(at=NOW + 4, replica="web-r1", attempt=1))
    assert observed.replicas["web-r1"].state is ReplicaState.READY
    assert observed.replicas["web-r1"].ready_since == NOW + 4


def test_news_of_an_earlier_attempt_changes_nothing() -> None:
    observed = world(replica("web", 1, ReplicaState.STARTING, attempt=2))
    before = observed.replicas["web-r1"]
    fold(observed, ev.ReplicaExited(at=NOW, replica="web-r1", attempt=1, exit=Exit(at=NOW, code=1)))
    fold(observed, ev.ProbeSucceeded(at=NOW, replica="web-r1", attempt=1))
    assert observed.replicas["web-r1"] == before


@pytest.mark.parametrize(("ready_s", "crashes"), [(59.0, 5), (60.0, 1)])
def test_a_minute_of_readiness_earns_a_fresh_back_off(ready_s: float, crashes: int) -> None:
    observed = world(replica("web", 1, crashes=4, ready_since=NOW))
    at = NOW + ready_s
    fold(observed, ev.ReplicaExited(at=at, replica="web-r1", attempt=1, exit=Exit(at=at, code=1)))
    assert observed.replicas["web-r1"].crashes == crashes


@pytest.mark.parametrize(("ready_s", "strikes"), [(None, 4), (0.9, 4), (LASTED_S, 1)])
def test_who_lasts_longer_than_its_last_back_off_comes_back_at_once(ready_s: float | None, strikes: int) -> None:
    state = ReplicaState.STARTING if ready_s is None else ReplicaState.READY
    observed = world(replica("web", 1, state, crashes=3, strikes=3, ready_since=None if ready_s is None else NOW))
    at = NOW + (ready_s or 0.0)
    fold(observed, ev.ReplicaExited(at=at, replica="web-r1", attempt=1, exit=Exit(at=at, code=-9)))
    after = observed.replicas["web-r1"]
    assert (after.crashes, after.strikes) == (4, strikes)  # it is told as a crash loop all the same


def test_who_dies_every_few_seconds_is_backed_off_in_the_end() -> None:
    observed, starts, now = world(replica("web", 1, ready_since=NOW)), 0, NOW
    while now < NOW + 600:
        now += 2.0  # ready for so long
        fold(observed, ev.ReplicaExited(at=now, replica="web-r1", attempt=1, exit=Exit(at=now, code=1)))
        after = observed.replicas["web-r1"]
        now = restarts_at(after)
        observed.replicas["web-r1"] = replace(after, state=ReplicaState.READY, ready_since=now)
        starts += 1
    assert backoff_s(after.strikes) == BACKOFF_S_MAX
    assert starts < 60


def test_a_replica_counts_as_routed_until_envoy_confirms_a_snapshot_without_it() -> None:
    observed = world(replica("web", 1), replica("web", 2))
    fold(observed, ev.DrainStarted(at=NOW, replica="web-r1", reason=""))
    fold(observed, ev.SnapshotPublished(at=NOW, version=5, generation=1, replicas=frozenset({"web-r2"})))
    assert "web-r1" in observed.routed
    fold(observed, ev.SnapshotApplied(at=NOW + 1, version=4, replicas=frozenset({"web-r1", "web-r2"})))
    assert observed.replicas["web-r1"].detached_at is None
    fold(observed, ev.SnapshotApplied(at=NOW + 2, version=5, replicas=frozenset({"web-r2"})))
    assert observed.routed == {"web-r2"}
    assert observed.replicas["web-r1"].detached_at == NOW + 2


def test_when_the_proxy_dies_nobody_is_routed_to_but_by_the_newest_snapshot() -> None:
    observed = world(replica("web", 1), replica("web", 2))
    fold(observed, ev.DrainStarted(at=NOW, replica="web-r1", reason=""))
    fold(observed, ev.SnapshotPublished(at=NOW, version=2, generation=1, replicas=frozenset({"web-r2"})))
    fold(observed, ev.ProxyExited(at=NOW + 1, exit=Exit(at=NOW + 1, code=-9)))
    assert observed.replicas["web-r1"].detached_at == NOW + 1
    assert observed.routed == {"web-r2"}


def test_the_next_proxy_serves_once_it_confirms_what_the_last_one_had() -> None:
    observed = world(replica("web", 1))
    fold(observed, ev.ProxyExited(at=NOW, exit=Exit(at=NOW, code=-9)))
    fold(observed, ev.ProxyScheduled(at=NOW, attempt=2, reason=""))
    fold(observed, ev.SnapshotApplied(at=NOW + 1, version=1, replicas=frozenset({"web-r1"})))
    assert observed.proxy.state is ProxyState.SERVING
    assert observed.routed == {"web-r1"}


def test_a_refused_resource_is_forgotten_once_envoy_takes_it() -> None:
    observed = world(replica("web", 1))
    fold(observed, ev.ResourceRejected(at=NOW, resource="gateway", kind="Listener", message="port taken"))
    assert observed.rejected == {"gateway": "port taken"}
    refused = (("gateway", "port taken"),)
    fold(observed, ev.SnapshotApplied(at=NOW, version=1, replicas=frozenset({"web-r1"}), rejected=refused))
    assert observed.rejected == {"gateway": "port taken"}
    fold(observed, ev.SnapshotApplied(at=NOW + 5, version=1, replicas=frozenset({"web-r1"})))
    assert observed.rejected == {}


@given(versions=st.lists(st.frozensets(st.sampled_from("abcdef")), min_size=1, max_size=80))
def test_no_merged_snapshot_ever_hides_a_routed_replica(versions: list[frozenset[str]]) -> None:
    observed = Observed()
    for version, replicas in enumerate(versions, start=1):
        fold(observed, ev.SnapshotPublished(at=NOW, version=version, generation=1, replicas=replicas))
    assert observed.routed == frozenset().union(*versions)
    assert len(observed.pending) <= 32


_STATES = st.sampled_from(list(ReplicaState))


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[Desired, Observed]:
    count = draw(st.integers(0, 5))
    replicas = [
        replica(
            "web",
            n,
            draw(_STATES),
            revision=draw(st.integers(1, 2)),
            ready_since=draw(st.sampled_from([0.0, NOW])),
            since=draw(st.sampled_from([0.0, NOW])),
            detached_at=draw(st.sampled_from([None, 0.0, NOW])),
            doomed="hung",
            told_at=draw(st.sampled_from([None, 0.0, NOW])),
        )
        for n in range(1, count + 1)
    ]
    app = apps.app(apps.service("web", replicas=draw(st.integers(0, 4))))
    return wanted(app, revision=2, down=draw(st.booleans())), world(*replicas)


@given(_worlds())
def test_a_plan_never_starts_more_than_one_above_what_is_wanted(case: tuple[Desired, Observed]) -> None:
    desired, observed = case
    decided = plan(desired, observed, NOW)
    starts = sum(isinstance(a, StartReplica) and a.attempt == 1 for a in decided.actions)
    running = sum(not r.leaving for r in observed.replicas.values())
    if starts:
        assert running + starts <= desired.targets["web"].replicas + 1


@given(_worlds())
def test_replacing_never_leaves_fewer_serving_than_wanted(case: tuple[Desired, Observed]) -> None:
    desired, observed = case
    if desired.down:
        return
    serving = {i for i, r in observed.replicas.items() if r.state is ReplicaState.READY}
    drained = {a.replica for a in plan(desired, observed, NOW).actions if isinstance(a, DrainReplica)}
    if drained & serving:
        assert len(serving - drained) >= min(desired.targets["web"].replicas, len(serving))


@given(_worlds())
def test_the_same_world_gives_the_same_plan_and_each_action_a_reason(case: tuple[Desired, Observed]) -> None:
    desired, observed = case
    decided = plan(desired, observed, NOW)
    assert decided == plan(desired, observed, NOW)
    assert all(action.reason for action in decided.actions)
    subjects = [getattr(a, "replica", "proxy") for a in decided.actions]
    assert len(subjects) == len(set(subjects))
