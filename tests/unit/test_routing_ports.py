"""Which replica is an endpoint of which port."""

from __future__ import annotations

from dataclasses import replace

from shoal.control.revisions import digest
from shoal.control.routing import Routing
from shoal.mesh.compile import MeshOptions
from shoal.mesh.snapshot import CLUSTER, ENDPOINTS
from shoal.model.app import App, External, Port, Protocol, Service
from shoal.model.replica import Address, Replica, ReplicaState, TcpAddress
from shoal.model.topology import EdgeMap
from shoal.model.world import Desired, Observed, Revision, Target
from shoal.testing import apps

ADMIN = Port(name="admin", number=3001, protocol=Protocol.TCP)


def at(port: int) -> Address:
    return TcpAddress(host="127.0.0.1", port=port)


def replica(number: int, **fields: object) -> Replica:
    made = Replica(id=f"web-r{number}", service="web", number=number, revision=1, state=ReplicaState.READY)
    return replace(made, **fields)  # type: ignore[arg-type]


def desired(app: App) -> Desired:
    targets = {
        s.name: Target(revision=Revision(service=s, number=1, digest="", created_at=0), replicas=s.replicas)
        for s in app.services
    }
    return Desired(app=app, generation=1, targets=targets)


def test_each_port_has_the_replicas_that_listen_for_it() -> None:
    web = apps.service("web", port=3000, ports=(ADMIN,))
    outside = apps.service("outside", port=80, replicas=0, workload=External(host="example.com", port=80))
    replicas = [
        replica(1, address=at(20001)),  # of a revision that had one port
        replica(2, address=at(20002), ports=(("admin", at(20003)),)),
        replica(3, address=at(20004), ports=(("admin", at(20005)),), state=ReplicaState.STARTING),
    ]
    observed = Observed(replicas={each.id: each for each in replicas})
    routing = Routing(MeshOptions(mesh_socket="/run/mesh.sock"))
    snapshot = routing.snapshot(desired(apps.app(web, outside)), observed, EdgeMap(network=77))
    assert snapshot is not None
    found = {
        name: [e.endpoint.address.socket_address.port_value for group in message.endpoints for e in group.lb_endpoints]
        for name, message in snapshot.resources[ENDPOINTS].items()
    }
    assert found == {"web": [20001, 20002], "web:admin": [20003]}
    assert set(snapshot.resources[CLUSTER]) == {"web", "web|h2", "web:admin", "outside", "outside|h2"}
    assert snapshot.replicas == {"web-r1", "web-r2"}


def test_what_a_replica_does_not_see_is_no_new_revision() -> None:
    def digests(*services: Service) -> dict[str, str]:
        app = apps.app(*services)
        return {service.name: digest(app, service) for service in services}

    web = apps.service("web", port=3000, ports=(ADMIN,))
    client = apps.service("client", port=None, calls=("web",))
    before = digests(web, client)
    assert digests(replace(web, ports=(replace(ADMIN, publish=True),), rewrite_host="x"), client) == before
    changed = digests(replace(web, ports=(replace(ADMIN, number=3002),)), client)
    assert changed["web"] != before["web"]
    assert changed["client"] != before["client"], "its variables name the port"
