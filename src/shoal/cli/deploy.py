"""`shoal deploy`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from shoal.cli.names import ServiceName
from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import count, emit, say
from shoal.cli.target import app_of
from shoal.cli.waiting import Waiting, waiting_options
from shoal.errors import UsageError
from shoal.model.status import AppStatus
from shoal.paths import StateFolder


@shoal_command(
    "deploy",
    ("shoal deploy", "rolls out what differs from what runs, and waits for it"),
    ("shoal deploy cart-service", "this service alone; all others stay as they run"),
    ("shoal deploy cart-service --canary", "first with 10 %, then 50 % of the requests, judged at each step"),
    ("shoal deploy --detach", "returns at once; shoal status shows how far it is"),
)
@click.argument("services", nargs=-1, metavar="[SERVICE]...", type=ServiceName())
@click.option(
    "--canary/--no-canary",
    default=None,
    help="Try it out with a share of the requests first, or do not. [default: as rollout.strategy says]",
)
@click.option(
    "--steps",
    metavar="PERCENT,...",
    help="A canary with these shares, one after the other. [default: as rollout.steps says, or 10,50]",
)
@click.option("--no-auto", is_flag=True, help="A canary of which a person takes each step (shoal promote).")
@waiting_options()
@file_option()
def command(
    services: tuple[str, ...],
    canary: bool | None,
    steps: str | None,
    no_auto: bool,
    detach: bool,
    timeout: float,
    file: Path | None,
    as_json: bool,
) -> None:
    """Roll out the app file and the code as they are now: new replicas first, old ones leave when those serve.

    A revision that crashes, or does not get ready, is taken back by itself; the exit status is 5 then, and the reason
    and the last lines are shown. What has not changed is not touched. With SERVICE, only the changes of these services
    are made. Needs a running app: `shoal up` starts one.

    With --canary a few new replicas get a share of the requests; what they answer is compared with what the old ones
    do. A bad one is taken back, a good one goes on; an undecided one stands, until `shoal promote` or `shoal abort`.
    """
    from shoal.spec.wire import to_plain

    started_at = time.monotonic()
    app = app_of(None, None, file, verb="deploy")
    folder = Path(app.folder)
    client = connect(folder)
    deployment = client.deploy(to_plain(app), only=services, canary=_plan(canary, steps, no_auto))
    if detach:
        if as_json:
            emit(deployment)
        else:
            rolls = ", ".join(deployment.rolling)
            say(f"deploy {deployment.generation} rolls out {rolls}: shoal status" if rolls else "nothing to roll out")
        return
    waiting = Waiting(client, StateFolder.beside(folder), timeout, started_at, quiet=as_json)
    status = waiting.until_rolled(deployment.rolling)
    if as_json:
        emit(status)
        return
    say(done(status, deployment.rolling, time.monotonic() - started_at))


def _plan(canary: bool | None, steps: str | None, no_auto: bool) -> dict[str, object] | None:
    """A `model.rollout.CanaryPlan`; None: as the app file says. Raises UsageError."""
    if canary is False:
        if steps is not None or no_auto:
            raise UsageError("--steps and --no-auto are for a canary", way_out="leave them away, or --no-canary")
        return {"strategy": "rolling"}
    if not canary and steps is None and not no_auto:
        return None
    plan: dict[str, object] = {"strategy": "canary"}
    if steps is not None:
        plan["percents"] = _percents(steps)
    return plan | ({"auto": False} if no_auto else {})


def _percents(steps: str) -> list[float]:
    from shoal.model.policy import are_shares

    try:
        percents = [float(step.strip().removesuffix("%")) for step in steps.split(",")]
    except ValueError:
        percents = []
    if not percents or not are_shares(tuple(percents)):
        raise UsageError(
            f"--steps {steps} are no growing shares between 0 and 100", way_out="write them like this: --steps 10,50"
        )
    return percents


def tell_rolled(waiting: Waiting, service: str, started_at: float, *, as_json: bool) -> None:
    """Waits for the end of one service's rollout, and says how it is then. Raises what `Waiting` raises."""
    whole = waiting.until_rolled((service,))
    if as_json:
        emit(next(s for s in whole.services if s.name == service))
    else:
        say(done(whole, (service,), time.monotonic() - started_at))


def done(status: AppStatus, rolled: tuple[str, ...], took_s: float) -> str:
    """`web is at revision 4 (3.2 s)`"""
    of_these = [s for s in status.services if s.name in rolled]
    if standing := [f"{s.name}: {s.rollout.step}" for s in of_these if s.rollout is not None and s.rollout.stands]:
        return "\n".join(standing)
    revisions = [f"{s.name} is at revision {s.revision}" for s in of_these]
    if not revisions:
        return f"{count(len(status.services), 'service')}: nothing to roll out"
    return f"{', '.join(revisions)} ({took_s:.1f} s)"
