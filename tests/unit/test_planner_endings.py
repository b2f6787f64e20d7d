"""`restart:` and `after:` with conditions: which ends are final, and what may start because of them."""

from __future__ import annotations

import pytest

from shoal.model import event as ev
from shoal.model.action import StartReplica
from shoal.model.app import Barrier, Restart
from shoal.model.replica import Exit, Replica, ReplicaState
from shoal.model.world import Desired, Observed, Proxy, ProxyState, Revision, Routes, Target
from shoal.planner import fold, plan
from shoal.testing import apps

NOW = 1000.0
S = ReplicaState
OK, BAD, KILLED = Exit(at=NOW, code=0), Exit(at=NOW, code=1), Exit(at=NOW, code=-9)
UNKNOWN = Exit(at=NOW, code=None)
DAEMONISED = Exit(at=NOW, code=0, error="it went to the background")


def replica(service: str, state: ReplicaState, **more: object) -> Replica:
    fields: dict[str, object] = {"id": f"{service}-r1", "number": 1, "revision": 1, "pid": 7} | more
    return Replica(service=service, state=state, **fields)  # type: ignore[arg-type]


def world(*replicas: Replica) -> Observed:
    observed = Observed(
        replicas={r.id: r for r in replicas},
        proxy=Proxy(state=ProxyState.SERVING, pid=1),
        applied=Routes(version=1, generation=1, replicas=frozenset()),
        mesh_generation=1,
    )
    observed.next_number = {r.service: r.number + 1 for r in replicas}
    return observed


def wanted(barrier: Barrier, restart: Restart = Restart.NEVER, *, revision: int = 1) -> Desired:
    """`web` after `init`."""
    init = apps.service("init", port=None, restart=restart)
    web = apps.service("web", after=("init",), barriers=(("init", barrier),))
    targets = {
        s.name: Target(revision=Revision(service=s, number=number, digest="x", created_at=0), replicas=1)
        for s, number in ((init, revision), (web, 1))
    }
    return Desired(app=apps.app(init, web), generation=1, targets=targets)


@pytest.mark.parametrize(
    ("restart", "end", "state"),
    [
        (Restart.ALWAYS, OK, S.BACKING_OFF),
        (Restart.ALWAYS, BAD, S.BACKING_OFF),
        (Restart.ON_FAILURE, OK, S.COMPLETED),
        (Restart.ON_FAILURE, BAD, S.BACKING_OFF),
        (Restart.ON_FAILURE, KILLED, S.BACKING_OFF),
        (Restart.ON_FAILURE, UNKNOWN, S.BACKING_OFF),
        (Restart.ON_FAILURE, DAEMONISED, S.BACKING_OFF),
        (Restart.NEVER, OK, S.COMPLETED),
        (Restart.NEVER, BAD, S.FAILED),
        (Restart.NEVER, UNKNOWN, S.FAILED),
        (Restart.NEVER, DAEMONISED, S.FAILED),
    ],
)
@pytest.mark.parametrize("before", [S.STARTING, S.READY, S.UNREADY])
def test_an_end_means_what_restart_says(restart: Restart, end: Exit, state: ReplicaState, before: ReplicaState) -> None:
    observed = world(replica("init", before, restart=restart))
    fold(observed, ev.ReplicaExited(at=NOW, replica="init-r1", attempt=1, exit=end))
    after = observed.replicas["init-r1"]
    assert after.state is state
    assert after.pid is None
    assert after.last_exit == end
    assert after.crashes == (0 if state is S.COMPLETED else 1)


@pytest.mark.parametrize("restart", Restart)
def test_a_replica_that_leaves_is_gone_however_it_ends(restart: Restart) -> None:
    observed = world(replica("init", S.STOPPING, restart=restart))
    fold(observed, ev.ReplicaExited(at=NOW, replica="init-r1", attempt=1, exit=OK))
    assert observed.replicas["init-r1"].state is S.GONE


@pytest.mark.parametrize("state", [S.COMPLETED, S.FAILED])
def test_what_has_ended_is_not_started_again_nor_another_in_its_place(state: ReplicaState) -> None:
    desired = wanted(Barrier.STARTED)
    decided = plan(desired, world(replica("init", state, last_exit=OK), replica("web", S.READY)), NOW + 1000)
    assert decided.actions == ()


def test_what_has_completed_runs_again_in_a_new_revision() -> None:
    desired = wanted(Barrier.COMPLETED, revision=2)
    decided = plan(desired, world(replica("init", S.COMPLETED, last_exit=OK), replica("web", S.READY)), NOW)
    starts = [a for a in decided.actions if isinstance(a, StartReplica)]
    assert [(a.replica, a.revision, a.restart) for a in starts] == [("init-r2", 2, Restart.NEVER)]


@pytest.mark.parametrize(
    ("barrier", "state", "more", "wait"),
    [
        (Barrier.READY, S.READY, {}, ""),
        (Barrier.READY, S.STARTING, {}, "waits for a ready replica of init"),
        (Barrier.STARTED, S.STARTING, {}, ""),
        (Barrier.STARTED, S.STARTING, {"pid": None}, "waits for init to start"),
        (Barrier.STARTED, S.COMPLETED, {"pid": None}, ""),
        (Barrier.STARTED, S.BACKING_OFF, {"pid": None}, "waits for init to start"),
        (Barrier.COMPLETED, S.READY, {}, "waits for init to complete"),
        (Barrier.COMPLETED, S.COMPLETED, {"last_exit": OK}, ""),
        (Barrier.COMPLETED, S.FAILED, {"last_exit": BAD}, "waits for init to complete, which failed: exit code 1"),
    ],
)
def test_a_barrier_opens_when_what_it_names_has_come_about(
    barrier: Barrier, state: ReplicaState, more: dict[str, object], wait: str
) -> None:
    decided = plan(wanted(barrier), world(replica("init", state, **more)), NOW)
    started = [a.service for a in decided.actions if isinstance(a, StartReplica)]
    waits = [w.reason for w in decided.waits if w.subject == "web"]
    assert (started.count("web"), waits) == ((0, [f"after: {wait}"]) if wait else (1, []))


def test_the_success_of_an_older_revision_opens_no_barrier() -> None:
    desired = wanted(Barrier.COMPLETED, revision=2)
    decided = plan(desired, world(replica("init", S.COMPLETED, last_exit=OK)), NOW)
    assert [w.reason for w in decided.waits if w.subject == "web"] == ["after: waits for init to complete"]


def test_the_stop_signal_is_told() -> None:
    observed = world(replica("web", S.STOPPING, stop_signal="SIGQUIT", since=NOW))
    assert [w.reason for w in plan(wanted(Barrier.STARTED), observed, NOW).waits if w.subject == "web-r1"] == [
        "stopping: has SIGQUIT"
    ]
