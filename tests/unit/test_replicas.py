"""The replicas and what is known of them without looking at all: it must be what looking at all would find."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from shoal.control.revisions import next_desired
from shoal.control.routing import Routing
from shoal.mesh.compile import MeshOptions
from shoal.mesh.snapshot import ENDPOINTS
from shoal.model.replica import Replica, ReplicaState, UnixAddress
from shoal.model.replicas import Replicas
from shoal.model.topology import EdgeMap
from shoal.model.world import Observed
from shoal.planner import plan
from shoal.testing import apps
from shoal.xds.library import Library

SERVICES = ("a", "b", "gone")
STEPS = st.lists(
    st.tuples(st.sampled_from(SERVICES), st.integers(1, 2), st.sampled_from([*ReplicaState, None]), st.integers(1, 2))
)
"""Service, number, state (None: it goes away), revision."""


def replica(service: str, number: int, state: ReplicaState, revision: int) -> Replica:
    name = f"{service}-r{number}"
    address = UnixAddress(path=f"/run/{name}.sock")
    return Replica(id=name, service=service, number=number, revision=revision, state=state, pid=1, address=address)


def done(replicas: Replicas, step: tuple[str, int, ReplicaState | None, int]) -> None:
    service, number, state, revision = step
    if state is None:
        replicas.pop(f"{service}-r{number}")
    else:
        replicas[f"{service}-r{number}"] = replica(service, number, state, revision)


@given(STEPS)
def test_what_it_knows_is_what_looking_at_all_finds(steps: list[tuple[str, int, ReplicaState | None, int]]) -> None:
    replicas = Replicas()
    for step in steps:
        there, changes = f"{step[0]}-r{step[1]}" in replicas, replicas.changes
        done(replicas, step)
        all_of = {name: [r for r in replicas.values() if r.service == name] for name in SERVICES}
        assert {name: replicas.of(name) for name in SERVICES} == {
            name: sorted(some, key=lambda r: r.number) for name, some in all_of.items()
        }
        assert set(replicas.services) == {name for name, some in all_of.items() if some}
        assert replicas.not_ready == {i: r for i, r in replicas.items() if r.state is not ReplicaState.READY}
        assert list(replicas.changed_since(changes)) == ([step[0]] if there or step[2] is not None else [])


@given(STEPS)
def test_the_same_world_gives_the_same_plan_and_the_same_routes_whatever_was_before(
    steps: list[tuple[str, int, ReplicaState | None, int]],
) -> None:
    app = apps.app(apps.service("a", port=3000, replicas=1), apps.service("b", port=3001, replicas=2))
    desired, edges = next_desired(app, None, {}, 0.0)[0], EdgeMap(network=77)
    options = MeshOptions(mesh_socket="/run/mesh.sock")
    observed, routing, library = Observed(), Routing(options), Library()
    for step in steps:
        done(observed.replicas, step)
        fresh = Observed(replicas=Replicas(observed.replicas))
        assert plan(desired, observed, 1000.0) == plan(desired, fresh, 1000.0)
        snapshot = routing.snapshot(desired, observed, edges)
        whole = Routing(options).snapshot(desired, fresh, edges)
        assert whole is not None
        if snapshot is not None:
            library.publish(snapshot)
            assert snapshot.replicas == whole.replicas
        anew = Library()
        anew.publish(whole)
        assert library.resources == anew.resources


def test_a_library_that_missed_a_snapshot_compares_everything() -> None:
    app = apps.app(apps.service("a", port=3000, replicas=1), apps.service("b", port=3001, replicas=1))
    desired, edges = next_desired(app, None, {}, 0.0)[0], EdgeMap(network=77)
    observed, routing, library = Observed(), Routing(MeshOptions(mesh_socket="/run/mesh.sock")), Library()
    first = routing.snapshot(desired, observed, edges)
    assert first is not None
    library.publish(first)
    observed.replicas["a-r1"] = replica("a", 1, ReplicaState.READY, 1)
    routing.snapshot(desired, observed, edges)
    observed.replicas["b-r1"] = replica("b", 1, ReplicaState.READY, 1)
    third = routing.snapshot(desired, observed, edges)
    assert third is not None
    assert third.changed == {"b"}
    assert library.publish(third) == {ENDPOINTS: {"a", "b"}}
    assert library.publish(replace(third, version=third.version + 1)) == {}
