"""What makes a new revision, and what does not."""

from __future__ import annotations

from dataclasses import field, fields, make_dataclass, replace
from typing import Any

import pytest

from shoal.control.revisions import digest
from shoal.model.app import Command, External, HealthCheck, Job, Network, Port, Protocol, PythonApp, Restart, Service
from shoal.spec import wire
from shoal.testing import apps

FULL = apps.service(
    "web",
    workload=Command(argv=("serve",)),
    ports=(Port(name="metrics", number=9100, protocol=Protocol.HTTP),),
    liveness=HealthCheck(path="/live"),
    env=(("A", "1"),),
)


def newer(value: Any) -> Any:
    """The same as a newer Shoal has it: its class has a field more, with a default."""
    kind = type(value)
    more = make_dataclass(
        kind.__name__, [("brand_new", int, field(default=7))], bases=(kind,), frozen=True, slots=True, kw_only=True
    )
    return more(**{each.name: getattr(value, each.name) for each in fields(kind) if each.init})


def made(service: Service) -> str:
    return digest(apps.app(service), service, "source")


def test_a_field_that_a_newer_shoal_has_more_makes_no_new_revision() -> None:
    assert made(newer(FULL)) == made(FULL)


@pytest.mark.parametrize(
    "workload",
    [
        Command(argv=("serve",)),
        PythonApp(module="web", attribute="app"),
        External(host="db.example.com", port=5432),
    ],
    ids=lambda workload: type(workload).__name__,
)
def test_nor_does_one_of_a_workload(workload: Any) -> None:
    # Not through `digest`: the annotation of `Service.workload` does not know the newer class.
    assert wire.essence(newer(workload)) == wire.essence(workload)
    assert wire.essence(workload) != wire.essence(External(host="x", port=1))


@pytest.mark.parametrize(
    "change",
    [
        {"workload": PythonApp(module="web", attribute="app")},
        {"ports": ()},
        {"ports": (Port(name="metrics", number=9100, protocol=Protocol.GRPC),)},
        {"liveness": None},
        {"liveness": HealthCheck(path="/other")},
        {"env": (("A", "2"),)},
        {"env": ()},
        {"port": 3999},
        {"restart": Restart.NEVER},
        {"build": ()},
        {"build": ("make",)},
        {"network": Network.OWN},
        {"folder": "/elsewhere"},
        {"job": Job()},
    ],
    ids=str,
)
def test_what_a_replica_is_made_of_makes_a_new_one(change: dict[str, Any]) -> None:
    assert made(replace(FULL, **change)) != made(FULL)


def test_what_envoy_or_the_planner_alone_knows_makes_none() -> None:
    assert made(replace(FULL, replicas=9, publish=True, after=("db",), rewrite_host="x")) == made(FULL)
