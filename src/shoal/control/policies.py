"""Traffic policies as `explain` and `status` show them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from shoal.mesh.policies import edges_to, listed
from shoal.model.app import App, Protocol, Service
from shoal.model.status import Setting
from shoal.model.traffic import NOTHING, Policy, words


def of_service(app: App, service: Service) -> Iterator[Setting]:
    """What is in force for requests to it, and where a caller has another word. Nothing for a worker."""
    protocol = _protocol(service)
    if protocol is None:
        return
    for one in listed(service, NOTHING, protocol):
        source = "default" if one.origin == "default" else "app file"
        yield Setting(name=one.key, value=_waiting(app, one.key, one.value), source=source)
    for caller, said in edges_to(app, service):
        for key, value in words(said).items():
            yield Setting(name=f"{key} for {caller}", value=value, source=f"calls of {caller}")


def of_calls(app: App, caller: Service) -> dict[str, tuple[Setting, ...]]:
    """Callee -> what is in force for these calls."""
    found = {}
    for name in caller.calls:
        callee = app.service(name)
        protocol = _protocol(callee)
        if protocol is not None:
            found[name] = tuple(
                Setting(name=one.key, value=_waiting(app, one.key, one.value), source=one.origin)
                for one in listed(callee, caller.edge(name), protocol)
            )
    return found


def faults(service: Service) -> Iterator[str]:
    """Failures on purpose."""
    said: list[tuple[str, Policy]] = [("its requests", service.traffic)]
    said += [(f"its calls to {callee}", policy) for callee, policy in service.edges]
    for what, policy in said:
        if policy.fault:
            yield f"{what}: {words(policy)['fault']}"


def _protocol(service: Service) -> Protocol | None:
    """TCP where nothing else is spoken; None: nobody calls it."""
    spoken = [port.protocol for port in service.every_port]
    return next((protocol for protocol in spoken if protocol is not Protocol.TCP), spoken[0] if spoken else None)


def _waiting(app: App, key: str, value: str) -> str:
    """In `shoal dev` a debugger may hold a request."""
    return "off (shoal dev)" if app.dev and key in ("timeout", "per_try_timeout") else value
