"""The probes of one replica over time, in virtual seconds: who is asked when, and what is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from shoal.engines.local import watch as watch_module
from shoal.engines.local.probe import READY, Result, Target
from shoal.engines.local.probe_budget import BUDGET, Budget, Cost
from shoal.engines.local.prober import Probed, Prober
from shoal.model.app import Protocol
from shoal.model.event import Event, ProbeFailed, ProbeSucceeded
from shoal.model.health import HealthCheck, Probe
from shoal.model.replica import TcpAddress, UnixAddress
from shoal.testing.virtual_time import run as run_virtually

BAD = Result(False, "HTTP 500 on /livez")
WEB = Probed(replica="web-r1", attempt=1, pid=1, address=UnixAddress(path=os.devnull), health=None)
Server = Callable[[Target, float, float], Awaitable[Result]]
"""(whom, now, patience) -> answer; `now` counts from the start."""


async def looked(target: Target, result: Result) -> Result:
    return result


def story(
    probed: Probed, server: Server, monkeypatch: pytest.MonkeyPatch, *, for_s: float
) -> list[tuple[float, Event]]:
    """What is told, and when."""
    told: list[tuple[float, Event]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def ask(target: Target, *, timeout_s: float = 1.0) -> Result:
            try:
                async with asyncio.timeout(timeout_s):
                    return await server(target, loop.time() - began, timeout_s)
            except TimeoutError:
                return Result(False, f"no answer in {timeout_s:g} s", silent=True)

        async def put(event: Event) -> None:
            told.append((round(loop.time() - began, 2), event))

        monkeypatch.setattr(watch_module, "probe", ask)
        monkeypatch.setattr(watch_module, "look_closer", looked)
        prober = Prober(put, now=loop.time)
        prober.start(probed)
        await asyncio.sleep(for_s)
        await prober.close()

    run_virtually(main())
    return told


def of(probe: Probe, told: list[tuple[float, Event]]) -> list[float]:
    """When a failure of this probe was told."""
    return [at for at, event in told if isinstance(event, ProbeFailed) and event.probe is probe]


async def well(target: Target, now: float, patience: float) -> Result:
    return READY


def silent_from(at: float, until: float = 1e9) -> Server:
    """Answers, then takes questions and says nothing, then answers all that still wait."""

    async def server(target: Target, now: float, patience: float) -> Result:
        if at <= now < until:
            await asyncio.sleep(until - now)
        return READY

    return server


def test_one_that_says_nothing_for_thirty_seconds_is_told_as_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    told = story(replace(WEB, restart_hung=True), silent_from(10), monkeypatch, for_s=50)
    (at,) = of(Probe.LIVENESS, told)
    assert 40 <= at <= 44
    hung = next(event for _, event in told if isinstance(event, ProbeFailed) and event.probe is Probe.LIVENESS)
    assert (hung.detail, hung.of, hung.asked) == ("hung, no answer at all in 30 s", 1, "answers its protocol")
    assert of(Probe.READINESS, told)[:3] < [20.0]  # out of Envoy long before


@pytest.mark.parametrize("busy_s", [10, 25])
def test_one_thread_that_works_on_a_long_request_is_not_hung(busy_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    told = story(replace(WEB, restart_hung=True), silent_from(5, 5 + busy_s), monkeypatch, for_s=90)
    assert of(Probe.READINESS, told)
    assert not of(Probe.LIVENESS, told)


def test_a_server_that_is_always_busy_and_answers_in_its_turn_is_not_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    """It never answers a question within its second, and always within its twenty."""

    async def server(target: Target, now: float, patience: float) -> Result:
        await asyncio.sleep(20 if now > 5 else 0)
        return READY

    told = story(replace(WEB, restart_hung=True), server, monkeypatch, for_s=300)
    assert not of(Probe.LIVENESS, told)


@pytest.mark.parametrize("detail", ["HTTP 503 on /", "connection refused", "closed the connection without an answer"])
def test_any_answer_shows_that_it_lives(detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def server(target: Target, now: float, patience: float) -> Result:
        return READY if now < 5 else Result(False, detail)

    told = story(replace(WEB, restart_hung=True), server, monkeypatch, for_s=300)
    assert not of(Probe.LIVENESS, told)


def test_with_liveness_off_nothing_is_told_of_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not of(Probe.LIVENESS, story(WEB, silent_from(5), monkeypatch, for_s=300))


def test_a_queue_that_stays_full_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    async def server(target: Target, now: float, patience: float) -> Result:
        return READY if now < 5 else Result(False, "accepts no more connections", silent=True)

    told = story(replace(WEB, restart_hung=True), server, monkeypatch, for_s=60)
    assert len(of(Probe.LIVENESS, told)) == 1


def test_a_command_that_fails_lets_the_port_be_asked_with_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    async def command(ask: object, *, timeout_s: float) -> Result:
        return READY if asyncio.get_running_loop().time() < began + 10 else Result(False, "check ended with 1")

    began = 0.0
    monkeypatch.setattr(watch_module, "run_command", command)
    probed = replace(WEB, restart_hung=True, health=HealthCheck(command=("check",)))
    assert not of(Probe.LIVENESS, story(probed, well, monkeypatch, for_s=100))
    assert of(Probe.LIVENESS, story(probed, silent_from(0), monkeypatch, for_s=100))


@pytest.mark.parametrize("protocol", [Protocol.TCP, None])
def test_where_only_the_kernel_answers_a_stopped_process_is_noticed(
    protocol: Protocol | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module.stopping, "is_stopped", lambda pid: pid == 1)
    address = None if protocol is None else TcpAddress(host="127.0.0.1", port=1)
    probed = replace(WEB, restart_hung=True, protocol=protocol or Protocol.HTTP, address=address)
    assert of(Probe.LIVENESS, story(probed, well, monkeypatch, for_s=40)) == [35.0]
    assert not of(Probe.LIVENESS, story(replace(probed, pid=2), well, monkeypatch, for_s=400))


LIVE = replace(WEB, liveness=HealthCheck(path="/livez", interval_s=2))


def livez(from_s: float) -> Server:
    async def server(target: Target, now: float, patience: float) -> Result:
        return BAD if target.health == "/livez" and now >= from_s else READY

    return server


def test_liveness_fails_once_an_interval_while_readiness_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    told = story(LIVE, livez(10), monkeypatch, for_s=20)
    times = of(Probe.LIVENESS, told)
    assert [round(b - a, 2) for a, b in pairwise(times)] == [2.0] * (len(times) - 1)
    assert not of(Probe.READINESS, told)
    failed = next(event for _, event in told if isinstance(event, ProbeFailed))
    assert (failed.of, failed.asked, failed.early) == (3, "/livez", False)


def test_liveness_waits_for_readiness_and_with_a_delay_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    async def server(target: Target, now: float, patience: float) -> Result:
        return BAD

    assert not of(Probe.LIVENESS, story(LIVE, server, monkeypatch, for_s=60))
    found = story(replace(LIVE, found=True), server, monkeypatch, for_s=60)
    assert of(Probe.LIVENESS, found)  # it may have been ready for long; the planner knows
    assert LIVE.liveness is not None
    early = story(replace(LIVE, liveness=replace(LIVE.liveness, delay_s=30)), server, monkeypatch, for_s=60)
    assert 30 <= of(Probe.LIVENESS, early)[0] <= 32
    assert all(event.early for _, event in early if isinstance(event, ProbeFailed) and event.probe is Probe.LIVENESS)


def test_nothing_else_is_asked_until_startup_has_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    async def server(target: Target, now: float, patience: float) -> Result:
        asked.append(target.health)
        return READY if now >= 10 or target.health != "/up" else Result(False, "HTTP 503 on /up")

    probed = replace(LIVE, startup=HealthCheck(path="/up"))
    told = story(probed, server, monkeypatch, for_s=20)
    last = max(index for index, path in enumerate(asked) if path == "/up")
    assert set(asked[:last]) == {"/up"}
    assert "/livez" in asked and None in asked
    assert 8 <= len(of(Probe.STARTUP, told)) <= 10  # each second, though it is asked more often at first
    succeeded = [event.probe for _, event in told if isinstance(event, ProbeSucceeded)]
    assert succeeded[:2] == [Probe.STARTUP, Probe.READINESS]


def test_further_ports_are_asked_now_and_then_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    async def server(target: Target, now: float, patience: float) -> Result:
        further = isinstance(target.address, TcpAddress)
        return Result(False, "connection refused") if further and 20 <= now < 40 else READY

    ports = (("admin", Protocol.HTTP, TcpAddress(host="127.0.0.1", port=1)),)
    told = story(replace(WEB, ports=ports), server, monkeypatch, for_s=60)
    times = of(Probe.READINESS, told)
    assert 20 <= times[0] <= 26
    assert times[2] - times[0] == pytest.approx(2.0)
    assert next(e.detail for _, e in told if isinstance(e, ProbeFailed)) == "port admin: connection refused"
    assert any(at >= 40 and isinstance(event, ProbeSucceeded) for at, event in told)


def test_a_thousand_that_were_found_are_not_asked_in_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []

    async def ask(target: Target, *, timeout_s: float = 1.0) -> Result:
        times.append(asyncio.get_running_loop().time())
        return READY

    async def put(event: Event) -> None:
        pass

    async def main() -> None:
        prober = Prober(put)
        began = asyncio.get_running_loop().time()
        for number in range(1000):
            prober.start(replace(WEB, replica=f"web-r{number}", found=True))
        await asyncio.sleep(20)
        await prober.close()
        times[:] = [at - began for at in times]

    monkeypatch.setattr(watch_module, "probe", ask)
    monkeypatch.setattr(watch_module, "look_closer", looked)
    run_virtually(main(), limit_s=1000)
    for start in (0.0, 0.5, 15.0):
        tenths = [sum(start + n / 10 <= at < start + (n + 1) / 10 for at in times) for n in range(5)]
        assert max(tenths) < 180
    asked = sum(at >= 10 for at in times) / 10
    assert asked * Cost.HTTP.value <= BUDGET * 1.05


def test_pauses_grow_when_all_that_is_asked_would_cost_too_much() -> None:
    budget = Budget()
    for number in range(200):
        budget.add(number, Cost.HTTP, 1.0, keep=False)
    assert budget.stretch == pytest.approx(1)
    for number in range(200, 1000):
        budget.add(number, Cost.HTTP, 1.0, keep=False)
    assert budget.stretch == pytest.approx(5)
    for number in range(1000):
        budget.remove(number)
    assert budget.stretch == pytest.approx(1)
    budget.remove("nobody")


def test_an_interval_that_was_written_is_kept_and_the_others_make_room() -> None:
    budget = Budget()
    for number in range(100):
        budget.add(f"kept {number}", Cost.HTTP, 1.0, keep=True)
    for number in range(200):
        budget.add(number, Cost.HTTP, 1.0, keep=False)
    assert budget.stretch == pytest.approx(2.0)


def test_commands_do_not_run_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = 0, 0

    async def command(ask: object, *, timeout_s: float) -> Result:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.1)
        running -= 1
        return READY

    async def put(event: Any) -> None:
        pass

    async def main() -> None:
        prober = Prober(put)
        for number in range(50):
            prober.start(replace(WEB, replica=f"web-r{number}", health=HealthCheck(command=("check",))))
        await asyncio.sleep(30)
        await prober.close()

    monkeypatch.setattr(watch_module, "run_command", command)
    run_virtually(main())
    assert most == 4
