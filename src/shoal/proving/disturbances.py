"""What is done to an app while it is asked: each does one thing, and says what."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shoal.client.http import Client
from shoal.client.plane import ask_keeper, ensure_plane
from shoal.errors import EngineError, ShoalError
from shoal.model.status import AppStatus, Health, ReplicaStatus
from shoal.paths import StateFolder

RECOVERY_S_MAX = 180.0
"""A rolling replacement of a large service on a small machine; liveness after a hang."""
FREEZE_S = 0.3
FREEZES = 5
HANG_S = 8.0
"""Longer than any probe, shorter than the default liveness: a person would call it a hiccup."""
_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """One thing that may happen."""

    name: str
    """`kill -9 web-r2`"""
    kind: str
    """For the report's rows: `kill a replica`."""
    service: str | None
    """Whose; None: Shoal's own."""
    do: Callable[[], None]
    """Returns when it is done; whether all is well again is seen afterwards. ShoalError: it could not be done."""


class Saboteur:
    """Makes disturbances for an app that runs. Touches only processes that Shoal lists."""

    def __init__(self, client: Client, state: StateFolder) -> None:
        self._client = client
        self._state = state

    def all(self, services: Sequence[str] = ()) -> list[Disturbance]:
        """One of each kind for each service that runs processes (all, or those named), then Shoal's own parts."""
        found = []
        for service in self._client.status().services:
            if services and service.name not in services:
                continue
            replicas = [replica for replica in service.replicas if replica.pid is not None]
            if not replicas or service.health is Health.COMPLETED:
                continue
            name = service.name
            found += [
                self._of(name, "kill -9 a replica", lambda name=name: self._kill(name)),  # type: ignore[misc]
                self._of(name, "freeze a replica, 8 s", lambda name=name: self._freeze(name, HANG_S, 1)),  # type: ignore[misc]
                self._of(name, "slow a replica down", lambda name=name: self._freeze(name, FREEZE_S, FREEZES)),  # type: ignore[misc]
                self._of(name, "replace each replica", lambda name=name: self._roll(name)),  # type: ignore[misc]
            ]
        return [
            *found,
            Disturbance(name="kill -9 the daemon", kind="kill -9 the daemon", service=None, do=self._kill_daemon),
            Disturbance(name="kill -9 the keeper", kind="kill -9 the keeper", service=None, do=self._kill_keeper),
            Disturbance(name="replace Envoy", kind="replace Envoy", service=None, do=self._replace_envoy),
        ]

    def wait_until_well(self) -> float:
        """Seconds until the app is as it should be: all ready, nothing leaving. EngineError after 180 s."""
        begun = time.monotonic()
        while True:
            try:
                status = self._client.status()
                if is_well(status):
                    return time.monotonic() - begun
            except ShoalError:
                ensure_plane(self._state)
            if time.monotonic() - begun > RECOVERY_S_MAX:
                raise EngineError(f"not as before within {RECOVERY_S_MAX:g} s", way_out="see shoal status")
            time.sleep(_POLL_S)

    def _of(self, service: str, kind: str, do: Callable[[], None]) -> Disturbance:
        return Disturbance(name=f"{kind} of {service}", kind=kind, service=service, do=do)

    def _victim(self, service: str) -> ReplicaStatus:
        """The oldest that runs: whoever serves longest. EngineError: none runs."""
        found = next((s for s in self._client.status().services if s.name == service), None)
        running = [r for r in found.replicas if r.pid is not None and r.state == "ready"] if found else []
        if not running:
            raise EngineError(f"no replica of {service} runs")
        return running[0]

    def _kill(self, service: str) -> None:
        """Returns once the daemon has seen it: until then all would seem to be well."""
        victim = self._victim(service).pid
        assert victim is not None
        _send(victim, signal.SIGKILL)
        self._until(lambda: victim not in self._pids(service), "its end")

    def _pids(self, service: str) -> set[int | None]:
        return {r.pid for s in self._client.status().services if s.name == service for r in s.replicas}

    def _freeze(self, service: str, seconds: float, times: int) -> None:
        pid = self._victim(service).pid
        assert pid is not None
        for _ in range(times):
            try:
                _send(pid, signal.SIGSTOP)
                time.sleep(seconds)
            finally:
                # Whatever happens to us: nobody's process stays frozen. One that was killed meanwhile is gone.
                try:
                    _send(pid, signal.SIGCONT)
                except EngineError:
                    return
            time.sleep(seconds)

    def _roll(self, service: str) -> None:
        before = {r.id for s in self._client.status().services if s.name == service for r in s.replicas}
        self._client.restart(service)
        deadline = time.monotonic() + RECOVERY_S_MAX
        while time.monotonic() < deadline:
            now = {r.id for s in self._client.status().services if s.name == service for r in s.replicas}
            if not now & before:
                return
            time.sleep(_POLL_S)
        raise EngineError(f"{service} was not replaced within {RECOVERY_S_MAX:g} s", way_out="see shoal status")

    def _kill_daemon(self) -> None:
        before = self._client.status().daemon_pid
        _send(before, signal.SIGKILL)
        self._until(lambda: self._client.status().daemon_pid != before, "a new daemon")

    def _kill_keeper(self) -> None:
        before = ask_keeper(self._state, "hello").get("pid")
        if not isinstance(before, int):
            raise EngineError("the keeper does not answer")
        _send(before, signal.SIGKILL)
        self._until(lambda: ask_keeper(self._state, "hello").get("pid") not in (None, before), "a new keeper")

    def _replace_envoy(self) -> None:
        before = self._client.status().proxy.pid
        self._client.replace_proxy()
        self._until(lambda: self._client.status().proxy.pid not in (None, before), "another Envoy")

    def _until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + RECOVERY_S_MAX
        while time.monotonic() < deadline:
            try:
                if done():
                    return
            except ShoalError:
                pass  # the daemon is on its way
            time.sleep(_POLL_S)
        raise EngineError(f"{what} did not come within {RECOVERY_S_MAX:g} s", way_out="see shoal events")


def is_well(status: AppStatus) -> bool:
    """Whether every service is ready or has done its work, with as many replicas as wanted and none that leaves."""
    for service in status.services:
        if service.health not in (Health.READY, Health.COMPLETED, Health.STOPPED):
            return False
        if service.ready != service.wanted and service.health is Health.READY and service.replicas:
            return False
        if any(replica.state in ("draining", "stopping") for replica in service.replicas):
            return False
    return status.proxy.state == "serving"


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except OSError as error:
        raise EngineError(f"pid {pid} cannot be sent {number.name}: {error.strerror}") from error
