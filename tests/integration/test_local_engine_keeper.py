"""The keeper is killed under the engine: replicas do not notice, and the engine finds out what happened meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from shoal.errors import EngineError
from shoal.model.event import (
    KeeperAttached,
    KeeperLost,
    ProbeSucceeded,
    ProxyExited,
    ProxyStarted,
    ReplicaExited,
    ReplicaStarted,
)
from tests.integration.engine_box import Box, run, until
from tests.support.processes import alive

pytestmark = pytest.mark.integration

IDLE = "import time; print('up', flush=True); time.sleep(1000)"


async def lose_keeper(box: Box) -> None:
    """Kills it and waits until the engine has another."""
    box.events = [e for e in box.events if not isinstance(e, KeeperLost | KeeperAttached)]
    os.kill(await box.keeper_pid(), signal.SIGKILL)
    await box.event(KeeperLost)
    await box.event(KeeperAttached)


def test_replicas_outlive_the_keeper_and_are_still_the_engines(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        job = box.python("job", IDLE, port=None)
        replica = await box.ready(job)
        await box.engine.start_proxy()
        proxy = (await box.event(ProxyStarted)).pid
        await box.proxy_logged("up")
        old = await box.keeper_pid()
        await lose_keeper(box)
        attached = await box.event(KeeperAttached)
        assert attached.adopted == 1
        assert attached.pid == await box.keeper_pid() != old
        assert alive(await box.pid(replica))
        assert await box.engine.observe_proxy() == proxy
        assert box.of(replica) == ["ReplicaStarted"]
        assert await box.engine.stop(replica, force=False)
        await box.exit(replica)
        await box.engine.stop_proxy()
        await box.event(ProxyExited)

    run(tmp_path, scenario)


def test_what_ended_while_there_was_no_keeper_is_reported(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        first, second = await asyncio.gather(
            box.start(box.python("a", IDLE, port=None)), box.start(box.python("b", IDLE, port=None))
        )
        pids = [await box.pid(replica) for replica in (first, second)]
        await box.engine.start_proxy()
        proxy = (await box.event(ProxyStarted)).pid
        await box.proxy_logged("up")

        restart = box.start_keeper

        async def restart_late() -> None:
            os.kill(pids[0], signal.SIGKILL)
            os.kill(proxy, signal.SIGKILL)
            await until(lambda: not alive(pids[0]) and not alive(proxy), "their ends")
            await restart()

        box.engine._link._restart = restart_late
        await lose_keeper(box)
        end = await box.exit(first)
        assert end.code in (None, -signal.SIGKILL)
        await box.event(ProxyExited)
        assert await box.engine.observe_proxy() is None
        assert box.of(second) == ["ReplicaStarted"]
        assert [e.replica for e in box.events if isinstance(e, ReplicaExited)] == [first]

    run(tmp_path, scenario)


def test_a_start_in_the_middle_of_it_happens_once(tmp_path: Path) -> None:
    """Ten starts, while the keeper is killed: each is reported once, and each process is known."""

    async def scenario(box: Box) -> None:
        job = box.python("job", IDLE, port=None)
        starts = [asyncio.create_task(box.start(job, number=number)) for number in range(1, 11)]
        await box.event(ReplicaStarted)
        os.kill(await box.keeper_pid(), signal.SIGKILL)
        replicas = await asyncio.gather(*starts)
        for replica in replicas:
            assert alive(await box.pid(replica))
            assert box.of(replica) == ["ReplicaStarted"], box.events

    run(tmp_path, scenario)


def test_the_network_stays_leased(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        network = await box.engine.lease_network(prefer=200)
        await lose_keeper(box)
        assert await box.engine.lease_network(prefer=network) == network

    run(tmp_path, scenario)


def test_probes_go_on_and_the_next_attempt_starts_after_many_deaths(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        job = box.python("job", IDLE, port=None)
        replica = await box.ready(job)
        for _ in range(3):
            await lose_keeper(box)
        os.kill(await box.pid(replica), signal.SIGKILL)
        await box.exit(replica)
        await box.start(job, attempt=2)
        await box.event(ProbeSucceeded, replica, attempt=2)

    run(tmp_path, scenario)


def test_a_keeper_that_cannot_be_replaced_is_an_error_with_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.engines.local.keeper_link.RECONNECT_S_MAX", 0.2)

    async def scenario(box: Box) -> None:
        restart = box.engine._link._restart

        async def refuse() -> None:
            raise EngineError("no keeper today")

        box.engine._link._restart = refuse
        os.kill(await box.keeper_pid(), signal.SIGKILL)
        await box.event(KeeperLost)
        end = await box.ended(box.python("job", IDLE, port=None))
        assert "there is no keeper since 0.2 s" in end.reason
        box.engine._link._restart = restart
        await box.event(KeeperAttached)
        await box.start(box.services[0], attempt=2)

    run(tmp_path, scenario)
