"""What the simulation knows of probes: how they are drawn, what goes wrong with replicas, and what never may happen.

That whoever hangs is restarted in the end is shown by convergence: nobody helps those that are to be.
"""

from __future__ import annotations

import random
from typing import Any

from shoal.model.health import HealthCheck
from shoal.model.replica import ReplicaState
from shoal.model.world import Observed
from shoal.testing.fake_engine import FakeEngine

OUT = (ReplicaState.DRAINING, ReplicaState.RESTARTING)
"""On the way out of Envoy before a signal."""


def draw(rng: random.Random) -> dict[str, Any]:
    """Fields of a service: half of them have what has no `liveness` and no `startup`."""
    found: dict[str, Any] = {}
    dice = rng.random()
    if dice < 0.3:
        interval_s, failures = rng.choice([0.2, 1.0, 5.0]), rng.randint(1, 4)
        found["liveness"] = HealthCheck(path="/livez", interval_s=interval_s, failures=failures)
    elif dice < 0.4:
        found["restart_hung"] = False
    if rng.random() < 0.2:
        found["startup"] = HealthCheck(path="/up", interval_s=1.0, failures=rng.choice([10, 60]))
    return found


async def disturb(rng: random.Random, engine: FakeEngine, observed: Observed, replica: str) -> None:
    """It hangs, or says for a while that it is not ready. One that hangs before it was ever ready, and has no startup
    probe, is restarted by nobody: it might still be starting."""
    known = observed.replicas.get(replica)
    process = engine.processes.get(replica)
    if known is None or process is None:
        return
    was_ready = known.state in (ReplicaState.READY, ReplicaState.UNREADY)
    if rng.random() < 0.4:
        await engine.get_unready(replica, rng.uniform(0.5, 60))
    elif was_ready or process.launch.revision.service.startup is not None:
        await engine.hang(replica)


def broken(observed: Observed, engine: FakeEngine, replica: str) -> str:
    """A signal is about to be sent to it: what of that may never be; empty: nothing."""
    known, process = observed.replicas.get(replica), engine.processes.get(replica)
    if known is None or process is None or known.leaving:
        return ""
    if known.state is not ReplicaState.RESTARTING:
        return f"{replica} is sent a signal and is {known.state}"
    if not process.condemned:
        return f"{replica} is restarted, and no liveness or startup probe of it has failed for good"
    return ""


def left_alone(engine: FakeEngine) -> list[str]:
    """Hung, and by its settings for ever so."""
    return [
        name
        for name, process in engine.processes.items()
        if process.running
        and process.hung
        and process.launch.revision.service.liveness is None
        and not process.launch.revision.service.restart_hung
    ]
