"""What a simulated life knows of canaries: who asks for one, what each revision answers, and what a share must be."""

from __future__ import annotations

import random

from envoy.config.core.v3 import health_check_pb2 as core

from shoal.control.commands import Commands
from shoal.mesh.snapshot import ENDPOINTS, Snapshot
from shoal.model.policy import CanaryPolicy, Strategy
from shoal.model.rollout import CanaryPlan, RolloutState
from shoal.model.world import Desired
from shoal.testing.fake_meter import FakeMeter

SAMPLE_S = 2.0
PER_S_MAX = 400


class Traffic:
    """Requests to what is compared. A revision is good or bad for the whole of a life."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._per_s = rng.choice([0, 5, 100, PER_S_MAX])
        self._bad = rng.choice([0.0, 0.5])
        self._revisions: dict[tuple[str, int], tuple[float, float]] = {}

    def drawn(self, service: str, revision: int) -> tuple[float, float]:
        """Its part of errors, and how long its answers take, in ms."""
        key = service, revision
        if key not in self._revisions:
            bad = self._rng.random() < self._bad
            self._revisions[key] = self._rng.choice([(0.3, 10.0), (0.0, 200.0)]) if bad else (0.0, 10.0)
        return self._revisions[key]

    def flow(self, meter: FakeMeter, shares: dict[str, dict[int, float]], faults: bool) -> None:
        """What Envoy counts in `SAMPLE_S`, shared as its endpoints say. Where faults are over, there is enough to tell
        a good one from a bad one."""
        per_s = self._per_s if faults else PER_S_MAX
        for service in sorted(meter.watched):
            for revision, share in shares.get(service, {}).items():
                errors, ms = self.drawn(service, revision)
                requests = round(per_s * SAMPLE_S * share)
                if requests:
                    meter.answered(service, revision, requests, errors=round(requests * errors), ms=ms)


def shares(snapshot: Snapshot | None) -> dict[str, dict[int, float]]:
    """service -> revision -> its part of the requests, as the endpoints are weighed; of one with endpoints they are 1
    together."""
    found: dict[str, dict[int, float]] = {}
    for name, assignment in snapshot.resources[ENDPOINTS].items() if snapshot is not None else ():
        weights: dict[int, float] = {}
        for locality in assignment.endpoints:
            for endpoint in locality.lb_endpoints:
                if endpoint.health_status == core.HealthStatus.DRAINING:
                    continue  # only finishes what it has
                revision = int(endpoint.metadata.filter_metadata["envoy.lb"]["revision"])
                weights[revision] = weights.get(revision, 0) + (endpoint.load_balancing_weight.value or 1)
        whole = sum(weights.values())
        if whole:
            found[name] = {revision: weight / whole for revision, weight in weights.items()}
    return found


def broken(snapshot: Snapshot, desired: Desired | None) -> str:
    """What is wrong with the shares of the canaries under way; empty: nothing."""
    found = shares(snapshot)
    for name, target in desired.targets.items() if desired is not None else ():
        rollout = target.rollout
        if rollout is None or rollout.state is not RolloutState.CANARY:
            continue
        parts = found.get(name, {})
        wanted = rollout.steps[rollout.step].percent / 100
        if len(parts) > 1 and rollout.revision in parts and abs(parts[rollout.revision] - wanted) > 1e-9:
            return f"{name}: revision {rollout.revision} gets {parts}, and should get {wanted} of 1"
    return ""


def draw_policy(rng: random.Random) -> tuple[Strategy, CanaryPolicy]:
    policy = CanaryPolicy(
        percents=rng.choice([(10.0, 50.0), (50.0,), (1.0, 33.3)]),
        wait_s=rng.choice([0.0, 5.0]),
        wait_s_max=rng.choice([10.0, 30.0]),
        auto=rng.random() < 0.8,
    )
    return rng.choice([Strategy.ROLLING, Strategy.CANARY]), policy


def draw_plan(rng: random.Random) -> CanaryPlan | None:
    return rng.choice([None, None, CanaryPlan(), CanaryPlan(percents=(20.0,)), CanaryPlan(strategy=Strategy.ROLLING)])


def standing(commands: Commands) -> list[str]:
    """Services whose canary waits for a person."""
    return [s.name for s in commands.status().services if s.rollout is not None and s.rollout.stands]
