"""An app that comes in by the API is checked again: its names become paths, addresses and host names.

`shoal up` has checked the file with lines and columns before; whoever else speaks to the socket gets these words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import PurePath

from shoal.errors import UsageError
from shoal.model import cron
from shoal.model.app import App, Command, External, Network, Protocol, Restart, Service
from shoal.spec import edges as traffic
from shoal.spec.barriers import cycles
from shoal.spec.check import name_flaw
from shoal.spec.egress import flaw_of
from shoal.spec.schema import MAX_REPLICAS, STOP_SIGNALS, is_label

PORTS = range(1, 65_536)


def admit(app: App) -> None:
    """Raises UsageError with everything that is wrong."""
    flaws = list(_flaws(app))
    if flaws:
        count = "a flaw" if len(flaws) == 1 else f"{len(flaws)} flaws"
        raise UsageError(
            f"the app has {count}, first {flaws[0]}", way_out="mend it; nothing was changed", detail="\n".join(flaws)
        )


def _flaws(app: App) -> Iterator[str]:
    if not is_label(app.name):
        yield f"name: {app.name!r} is no DNS label"
    services = {service.name: service for service in app.services}
    for name, count in Counter(service.name for service in app.services).items():
        if count > 1:
            yield f"services: '{name}' is there {count} times"
    for service in app.services:
        yield from (f"services.{service.name}.{flaw}" for flaw in _service_flaws(service, services))
    for ring in cycles({name: [a for a in service.after if a in services] for name, service in services.items()}):
        yield f"services: {' after '.join(ring)} wait for one another"
    published = Counter(port.number for service in app.services for port in service.every_port if port.publish)
    if app.gateway:
        published[app.gateway.port] += 1
        if app.gateway.port not in PORTS:
            yield f"gateway.port: {app.gateway.port} is no port"
        for network in app.gateway.trusted_proxies:
            if not _is_network(network):
                yield f"gateway.trusted_proxies: {network!r} is no network such as 10.0.0.0/8"
        for route in app.gateway.routes:
            if not route.path.startswith("/"):
                yield f"gateway.routes: {route.path!r} does not start with '/'"
            if route.service not in services or services[route.service].port is None:
                yield f"gateway.routes: {route.path} leads to '{route.service}', which is no service with a port"
                continue
            ports = {port.name: port for port in services[route.service].every_port}
            port = ports.get(route.port) if route.port else services[route.service].every_port[0]
            if port is None:
                yield f"gateway.routes: {route.path}: '{route.service}' has no port '{route.port}'"
            elif port.protocol is Protocol.TCP:
                yield f"gateway.routes: {route.path} leads to '{route.service}', which speaks TCP"
            if route.rewrite is not None and not route.rewrite.startswith("/"):
                yield f"gateway.routes: {route.path}: rewrite: {route.rewrite!r} does not start with '/'"
    for number, count in published.items():
        if count > 1:
            yield f"services: port {number} is published {count} times"


def _job_flaws(service: Service) -> Iterator[str]:
    if service.port is not None or service.replicas or service.restart is not Restart.NEVER:
        yield "job: it has no port, no replicas, and restart: never"
    try:
        cron.parse(service.job.schedule if service.job and service.job.schedule else "@daily")
    except ValueError as error:
        yield f"job: the schedule {error}"


def _is_network(text: str) -> bool:
    try:
        return str(ip_network(text)) == text
    except ValueError:
        return False


def _service_flaws(service: Service, services: dict[str, Service]) -> Iterator[str]:
    flaw = name_flaw(service.name, "")
    if flaw:
        yield f"name: {flaw[0]}"
    numbers = [port.number for port in service.every_port]
    for number, count in Counter(numbers).items():
        if number not in PORTS:
            yield f"port: {number} is no port"
        if count > 1:
            yield f"ports: {number} is there {count} times"
    for port in service.ports:
        if not is_label(port.name):
            yield f"ports: {port.name!r} is no DNS label"
    for name, count in Counter(port.name for port in service.every_port).items():
        if count > 1:
            yield f"ports: '{name}' is there {count} times"
    if (service.publish or service.ports) and service.port is None:
        yield "publish: it has no port"
    if service.listen is not None and service.listen not in PORTS:
        yield f"listen: {service.listen} is no port"
    if (service.listen is not None or service.loopback) and service.network is not Network.OWN:
        yield "listen: it needs network: own"
    if service.egress is not None and service.network is not Network.OWN:
        yield "egress: it needs network: own"
    yield from (f"egress: {text!r} {wrong}" for text in service.egress or () if (wrong := flaw_of(text)))
    if service.network is Network.OWN and isinstance(service.workload, External):
        yield "network: what is external is not run"
    if not 0 <= service.replicas <= MAX_REPLICAS:
        yield f"replicas: {service.replicas} is not between 0 and {MAX_REPLICAS}"
    if not PurePath(service.folder).is_absolute():
        yield f"folder: {service.folder!r} is not absolute"
    if isinstance(service.workload, Command) and not service.workload.argv:
        yield "workload: the command is empty"
    if service.build and not all(part and "\0" not in part for part in service.build):
        yield "build: a part of the step is empty"
    if isinstance(service.workload, External) and (service.port is None or service.ports or service.replicas):
        yield "external: it has one port, and no replicas"
    if (
        isinstance(service.workload, External)
        and service.workload.tls
        and not PurePath(service.workload.ca).is_absolute()
    ):
        yield "external: with tls it needs the absolute path of the authorities in 'ca'"
    if isinstance(service.health, str) and not service.health.startswith("/"):
        yield f"health: {service.health!r} does not start with '/'"
    for key, value in service.env:
        if not key or "=" in key or "\0" in key + value:
            yield f"env: {key!r} cannot be a variable"
    for callee in service.calls:
        if callee not in services or services[callee].port is None:
            yield f"calls: '{callee}' is no service with a port"
    if service.rollout.canary.flaw:
        yield f"rollout.canary.percents: {service.rollout.canary.flaw}"
    yield from traffic.flaws(service.traffic)
    for callee, said in service.edges:
        if callee not in service.calls:
            yield f"edges: '{callee}' is not in calls"
        yield from (f"edges.{callee}.{flaw}" for flaw in traffic.flaws(said))
    if service.job is not None:
        yield from _job_flaws(service)
    if service.stop_signal not in STOP_SIGNALS:
        yield f"stop_signal: {service.stop_signal!r} is none of {', '.join(STOP_SIGNALS)}"
    for other in service.after:
        if other not in services:
            yield f"after: '{other}' is no service"
