"""A service's probes in words, for `explain`."""

from __future__ import annotations

from collections.abc import Iterator

from shoal.model.app import Service
from shoal.model.health import HealthCheck, Probe
from shoal.model.status import Setting
from shoal.planner.defaults import HUNG_S
from shoal.planner.probing import pace


def settings(service: Service) -> Iterator[Setting]:
    health = HealthCheck(path=service.health) if isinstance(service.health, str) else service.health
    asked = "its process runs" if health is None and service.port is None else _words(health, Probe.READINESS)
    yield Setting(name="health", value=asked, source="app file" if health else "default")
    startup = _words(service.startup, Probe.STARTUP) if service.startup else "none"
    yield Setting(name="startup", value=startup, source="app file" if service.startup else "default")
    if service.liveness is not None:
        yield Setting(name="liveness", value=_words(service.liveness, Probe.LIVENESS), source="app file")
    elif not service.restart_hung:
        yield Setting(name="liveness", value="off", source="app file")
    else:
        words = f"restarted when it gives no answer at all for {HUNG_S:g} s"
        yield Setting(name="liveness", value=words, source="default")


def _words(check: HealthCheck | None, probe: Probe) -> str:
    check = check or HealthCheck()
    return f"{check}, {pace(check, probe)}"
