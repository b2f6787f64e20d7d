"""A deploy of which Envoy refuses a resource goes back."""

from __future__ import annotations

import pytest

from shoal.mesh.compile import MeshOptions, compile_app
from shoal.mesh.snapshot import CLUSTER, LISTENER, ROUTES
from shoal.model import event as ev
from shoal.model.app import Port
from shoal.model.topology import Edge, EdgeMap
from shoal.planner.refused import concerns
from shoal.testing import apps
from tests.unit.test_controller import Plane, scenario
from tests.unit.test_rollouts import V2, ended, rollout, web

OPTIONS = MeshOptions(mesh_socket="/run/mesh.sock", ipv6=True)


async def refuse(plane: Plane, resource: str, words: str = "no such thing") -> None:
    await plane.inbox.put(ev.ResourceRejected(at=plane.clock.now(), resource=resource, kind="Listener", message=words))


def keeps_refusing(plane: Plane, resource: str) -> None:
    """As Envoy does until it is offered something else: each of its answers says it again."""
    put = plane.inbox.put

    async def said(event: ev.Event) -> None:
        if isinstance(event, ev.SnapshotApplied) and plane.controller.desired is not None:
            target = plane.controller.desired.targets["web"]
            if dict(target.service.env) == {"V": "2"}:
                event = ev.SnapshotApplied(
                    at=event.at, version=event.version, replicas=event.replicas, rejected=((resource, "no such thing"),)
                )
        await put(event)

    plane.inbox.put = said  # type: ignore[method-assign]


def test_what_envoy_refuses_of_the_new_spec_takes_it_back() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        keeps_refusing(plane, "publish.web.3000")
        await plane.commands.deploy(web(V2))
        status = await ended(plane)
        assert (status.state, status.reason) == ("rolled-back", "Envoy refuses 'publish.web.3000': no such thing")
        # None of the old ones had left for it.
        await plane.until(lambda: plane.ids("web") == ["web-r1", "web-r2", "web-r3"])

    scenario(story)


def test_what_it_takes_at_the_second_time_delays_the_deploy_alone() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        await plane.commands.deploy(web(V2))
        await refuse(plane, "web")
        await plane.until(lambda: not plane.controller.observed.rejected)
        assert (await ended(plane)).state == "completed"

    scenario(story)


@pytest.mark.parametrize("resource", ["publish.other.3001", "publish.web.3000.v6"])
def test_a_refusal_that_is_not_the_services_own_is_not_held_against_it(resource: str) -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        keeps_refusing(plane, resource)
        await plane.commands.deploy(web(V2))
        assert (await ended(plane)).state == "completed"

    scenario(story)


def test_what_was_refused_before_is_not_the_deploys_fault() -> None:
    async def story(plane: Plane) -> None:
        await plane.up(web())
        await refuse(plane, "web")
        await plane.until(lambda: bool(plane.controller.observed.rejected))
        keeps_refusing(plane, "web")
        await plane.commands.deploy(web(V2))
        assert (await ended(plane)).state == "completed"
        assert rollout(plane).reason == ""

    scenario(story)


def test_each_resource_is_known_by_its_name_to_concern_its_service() -> None:
    app = apps.app(
        apps.service("web", publish=True, ports=(Port(name="metrics", number=9100, publish=True),), calls=("cart",)),
        apps.service("cart", port=3001),
    )
    pairs = [("web", "cart"), ("web", "*"), ("cart", "*")]
    edges = EdgeMap(
        network=77, edges={p: Edge(caller=p[0], callee=p[1], number=n) for n, p in enumerate(pairs, start=2)}
    )
    static = compile_app(app, edges, OPTIONS)
    of_web = {name for kind in (CLUSTER, LISTENER, ROUTES) for name in static[kind] if concerns(name, "web")}
    of_cart = {name for kind in (CLUSTER, LISTENER, ROUTES) for name in static[kind] if concerns(name, "cart")}
    assert {"web", "web:metrics", "publish.web.3000", "publish.web.9100", "edge.web.cart.3001", "service.web"} <= of_web
    assert {"cart", "edge.web.cart.3001", "service.cart"} <= of_cart
    assert not any(name.startswith("publish.web") for name in of_cart)
