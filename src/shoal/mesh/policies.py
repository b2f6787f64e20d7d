"""What is in force for the requests to a service: what its caller says of the call, else what the service says, else
the defaults. Each number with where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from shoal.mesh import defaults
from shoal.mesh.sides import Door, at_door
from shoal.model.app import App, External, Protocol, Service
from shoal.model.traffic import (
    NOTHING,
    OF_REPLICAS,
    OF_TCP,
    Balance,
    Breaker,
    Choice,
    Fault,
    Limit,
    Outlier,
    Policy,
    RetryBudget,
    key_of,
    words,
)

DEFAULT = Policy(
    timeout_s=defaults.REQUEST_TIMEOUT_S,
    retries=defaults.RETRIES,
    retry_budget=RetryBudget(percent=defaults.RETRY_BUDGET_PERCENT, floor=defaults.RETRY_FLOOR),
    outlier=Outlier(
        errors=defaults.EJECT_AFTER,
        interval_s=defaults.EJECT_SWEEP_S,
        ejection_s=defaults.EJECT_BASE_S,
        percent=defaults.EJECT_PERCENT_MAX,
    ),
    breaker=Breaker(
        connections=defaults.BREAKER_CONNECTIONS,
        pending=defaults.BREAKER_PENDING,
        requests=defaults.BREAKER_REQUESTS,
    ),
    limit=Limit(requests=0, per_s=1.0),
    balance=Balance(choice=Choice.LEAST_REQUEST),
    fault=Fault(percent=0.0),
)
"""`per_try_timeout` follows from `timeout`."""
_DEFAULT_TCP = replace(
    DEFAULT,
    retries=defaults.CONNECTS_TCP - 1,
    # The next in turn is another one than the replica that has just refused a connection; the one with the fewest
    # connections would be the same again, because it is dead. HTTP has its predicate for that, TCP has not.
    balance=Balance(choice=Choice.ROUND_ROBIN),
)

OF_CLUSTERS = ("retry_budget", "outlier", "breaker", "balance")
"""An edge that says one of these has clusters of its own; the rest is in its routes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """One key of the app file, as it is applied."""

    key: str
    value: str
    origin: str
    """`default`, `service` or `edge`."""


def default_of(protocol: Protocol) -> Policy:
    return _DEFAULT_TCP if protocol is Protocol.TCP else DEFAULT


def in_force(service: Service, edge: Policy = NOTHING, protocol: Protocol = Protocol.HTTP) -> Policy:
    """Every field has a value. `edge`: what a caller says of its calls to the service."""
    base = default_of(protocol)
    values: dict[str, Any] = {
        field.name: _filled(
            _first(getattr(edge, field.name), getattr(service.traffic, field.name)), getattr(base, field.name)
        )
        for field in fields(Policy)
    }
    if values["per_try_timeout_s"] is None:
        values["per_try_timeout_s"] = _per_try(values["timeout_s"])
    if values["retries"] == 0:
        values["per_try_timeout_s"] = 0.0
    return Policy(**values)


def listed(service: Service, edge: Policy = NOTHING, protocol: Protocol = Protocol.HTTP) -> Iterator[InForce]:
    """All that applies to a port of the service, in the order of the app file's keys."""
    outside = isinstance(service.workload, External)
    shown = words(in_force(service, edge, protocol))
    for field in fields(Policy):
        key = key_of(field.name)
        if (protocol is Protocol.TCP and key not in OF_TCP) or (outside and key in OF_REPLICAS):
            continue
        said = [(edge, "edge"), (service.traffic, "service")]
        origin = next((where for policy, where in said if getattr(policy, field.name) is not None), "default")
        yield InForce(key=key, value=shown[key], origin=origin)


def own_clusters(edge: Policy) -> bool:
    """Whether a call needs clusters of its own."""
    return any(getattr(edge, name) is not None for name in OF_CLUSTERS)


def edges_to(app: App, callee: Service) -> list[tuple[str, Policy]]:
    """(caller, what it says of its calls to the service), of those that say something."""
    found = [(caller.name, said) for caller in app.services for name, said in caller.edges if name == callee.name]
    if isinstance(callee.workload, Door):
        return [(caller, replace(at_door(said), breaker=None)) for caller, said in found]
    return found


def patient(app: App) -> App:
    """The same app, with no time-out anywhere: in `shoal dev` a debugger may hold a request for as long as somebody
    looks at it."""

    def waiting(said: Policy) -> Policy:
        return replace(said, timeout_s=0.0, per_try_timeout_s=0.0)

    return replace(
        app,
        services=tuple(
            replace(s, traffic=waiting(s.traffic), edges=tuple((callee, waiting(said)) for callee, said in s.edges))
            for s in app.services
        ),
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _filled(value: Any, base: Any) -> Any:
    """With the parts that it leaves open from `base`."""
    if value is None:
        return base
    if isinstance(value, RetryBudget | Outlier | Breaker):
        parts = {f.name: _first(getattr(value, f.name), getattr(base, f.name)) for f in fields(value)}
        return replace(value, **parts)
    return value


def _per_try(timeout_s: float) -> float:
    """So that a replica that hangs leaves time for others, and one that is slow is not asked for nothing."""
    return timeout_s / defaults.TRIES_IN_TIME
