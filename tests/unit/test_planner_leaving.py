"""When a replica that leaves is told to stop, and in which order the services of an app do."""

from __future__ import annotations

import pytest

from shoal.model import action as act
from shoal.model.draining import Draining
from shoal.model.replica import Replica, ReplicaState, UnixAddress
from shoal.model.revision import Revision
from shoal.model.world import Desired, Observed, Proxy, ProxyState, Target
from shoal.planner import plan
from shoal.planner.going_down import circles
from shoal.testing import apps

HERE = UnixAddress(path="/run/web-r1.sock")


def desired(
    *, down: bool = False, hurry: bool = False, draining: Draining | None = None, **calls: tuple[str, ...]
) -> Desired:
    """Services by name, with what they call."""
    services = [
        apps.service(name, port=3000 + i, calls=callees, draining=draining or Draining())
        for i, (name, callees) in enumerate(calls.items())
    ]
    targets = {
        one.name: Target(revision=Revision(service=one, number=1, digest="", created_at=0), replicas=1)
        for one in services
    }
    app = apps.app(*services)
    return Desired(app=app, generation=1, targets=targets, down=down, hurry=hurry, down_at=100.0)


def replica(service: str, state: ReplicaState = ReplicaState.DRAINING, **fields: object) -> Replica:
    made: dict[str, object] = {"since": 100.0, "out_at": 100.0, "detached_at": 100.1, "address": HERE} | fields
    return Replica(id=f"{service}-r1", service=service, number=1, revision=1, state=state, **made)  # type: ignore[arg-type]


def observed(*replicas: Replica) -> Observed:
    return Observed(replicas={r.id: r for r in replicas}, proxy=Proxy(state=ProxyState.SERVING))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "now", "told"),
    [
        ({"requests": 0, "requests_at": 100.5}, 100.5, "StopReplica: drained"),
        (
            {"requests": 0, "requests_at": 100.3},
            100.5,
            "drains: how many requests are under way is not known, 30 s left",
        ),
        ({"requests": 3, "requests_at": 101.9}, 102.0, "drains: 3 requests under way, 28 s left"),
        ({"requests": 1, "requests_at": 101.9}, 129.9, "drains: 1 request under way, less than 1 s left"),
        ({"requests": 1, "requests_at": 129.9}, 130.0, "StopReplica: drained for 30 s: 1 request under way"),
        ({}, 129.0, "drains: how many requests are under way is not known, 1 s left"),
        ({}, 130.0, "StopReplica: drained for 30 s: how many requests are under way is not known"),
        ({"out_at": None}, 100.5, "StopReplica: drained"),
        ({"out_at": 80.0}, 110.0, "StopReplica: drained for 30 s: how many requests are under way is not known"),
        ({"address": None}, 100.5, "StopReplica: drained"),
        ({}, 100.2, "drains: waits for its last requests to arrive"),
    ],
)
def test_its_requests_are_waited_for_until_they_end_or_had_their_time(
    fields: dict[str, object], now: float, told: str
) -> None:
    decided = plan(desired(web=()), observed(replica("web", **fields)), now)
    said = [f"{type(a).__name__}: {a.reason}" for a in decided.actions if isinstance(a, act.StopReplica)]
    said += [wait.reason for wait in decided.waits if wait.subject == "web-r1"]
    assert said == [told]


def test_with_a_drain_of_0s_nothing_is_waited_for() -> None:
    wanted = desired(draining=Draining(drain_s=0.0), web=())
    decided = plan(wanted, observed(replica("web", requests=5, requests_at=100.5)), 100.5)
    assert act.StopReplica(replica="web-r1", reason="drained") in decided.actions


def test_the_grace_period_is_the_services_own() -> None:
    wanted = desired(draining=Draining(grace_s=25.0), web=())
    stopping = observed(replica("web", ReplicaState.STOPPING))
    assert not any(isinstance(a, act.KillReplica) for a in plan(wanted, stopping, 124.9).actions)
    assert any(isinstance(a, act.KillReplica) for a in plan(wanted, stopping, 125.0).actions)


def test_without_an_envoy_nothing_is_under_way() -> None:
    there = observed(replica("web"))
    there.proxy = Proxy(state=ProxyState.BACKING_OFF, since=100.0, crashes=5)
    assert any(isinstance(a, act.StopReplica) for a in plan(desired(web=()), there, 100.5).actions)


CHAIN: dict[str, tuple[str, ...]] = {"product": (), "cart": ("product",), "web": ("cart",)}


def drained(wanted: Desired, there: Observed, now: float = 101.0) -> list[str]:
    return sorted(a.replica for a in plan(wanted, there, now).actions if isinstance(a, act.DrainReplica))


def test_callers_go_down_before_those_they_call() -> None:
    wanted = desired(down=True, **CHAIN)
    ready = {name: replica(name, ReplicaState.READY, out_at=None, detached_at=None) for name in CHAIN}
    assert drained(wanted, observed(*ready.values())) == ["web-r1"]
    ready["web"] = replica("web", ReplicaState.STOPPING)
    assert drained(wanted, observed(*ready.values())) == []
    waits = plan(wanted, observed(*ready.values()), 101.0).waits
    assert "goes down after web, which needs it" in [wait.reason for wait in waits if wait.subject == "cart"]
    assert drained(wanted, observed(ready["cart"], ready["product"])) == ["cart-r1"]
    assert drained(wanted, observed(ready["product"])) == ["product-r1"]


def test_those_in_a_circle_go_down_together() -> None:
    calls = {"a": ("b",), "b": ("c", "d"), "c": ("a",), "d": (), "e": ("a",)}
    found = circles(calls)
    assert found["a"] == found["b"] == found["c"]
    assert len({found[name] for name in calls}) == 3
    wanted = desired(down=True, **calls)
    ready = [replica(name, ReplicaState.READY) for name in calls]
    assert drained(wanted, observed(*ready)) == ["e-r1"]
    assert drained(wanted, observed(*ready[:4])) == ["a-r1", "b-r1", "c-r1"]


def test_the_order_is_kept_for_one_drain_time_and_no_longer() -> None:
    wanted = desired(down=True, **CHAIN)
    ready = observed(*(replica(name, ReplicaState.READY) for name in CHAIN))
    assert drained(wanted, ready, 129.9) == ["web-r1"]
    assert drained(wanted, ready, 130.0) == ["cart-r1", "product-r1", "web-r1"]


def test_a_hurried_app_drains_nothing() -> None:
    wanted = desired(down=True, hurry=True, **CHAIN)
    ready = observed(*(replica(name, ReplicaState.READY) for name in CHAIN))
    assert drained(wanted, ready) == ["cart-r1", "product-r1", "web-r1"]
    there = observed(replica("web", requests=3), replica("cart", ReplicaState.STOPPING))
    assert (
        act.StopReplica(replica="web-r1", reason="hurried: its requests are not waited for")
        in plan(wanted, there, 100.2).actions
    )
    assert any(isinstance(a, act.KillReplica) for a in plan(wanted, there, 102.0).actions)
