"""`shoal prove`: disturbs the user's own running app under load, and tells what was lost."""

from __future__ import annotations

import dataclasses
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shoal.cli.options import connect, file_option, shoal_command, state_folder
from shoal.cli.output import clean, emit, note, say, table
from shoal.errors import NotReadyError, ShoalError, UsageError

if TYPE_CHECKING:
    from shoal.proving.disturbances import Disturbance, Saboteur
    from shoal.proving.load import Load
    from shoal.proving.report import Row
    from shoal.proving.targets import Target

QUIET_S = 3.0
BETWEEN_S = 0.5


@shoal_command(
    "prove",
    ("shoal prove", "ask first, then one round of every disturbance"),
    ("shoal prove --minutes 30 --yes", "go on for half an hour, and do not ask"),
    ("shoal prove web --url http://localhost:8080/search?q=net", "only disturb web, and send this request"),
    ("shoal prove --yes --json > proof.json", "for CI: exit status 1 when a request was lost"),
)
@click.argument("services", nargs=-1)
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="So long, in random order. Default: each once."
)
@click.option("--url", "urls", multiple=True, metavar="URL", help="A GET to send; may be given again. Default: found.")
@click.option("--rate", type=click.FloatRange(1, 5000), default=200.0, show_default=True, help="Requests a second.")
@click.option("--seed", type=int, help="Of the order, with --minutes. Default: by chance, and told.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@file_option()
def command(
    services: tuple[str, ...],
    minutes: float | None,
    urls: tuple[str, ...],
    rate: float,
    seed: int | None,
    yes: bool,
    file: Path | None,
    as_json: bool,
) -> int:
    """Kill, freeze, slow down and replace what runs, under load, and report what was lost.

    The load is GETs of the services' OpenAPI documents (`/` where there is none) and of the gateway's routes, as far as
    they answer well before anything happens; --url names others. Everything that is disturbed comes back by itself, for
    that is what is proven. A replica that is killed takes its memory with it: do not run this where that matters.

    Exit status 0 when nothing was lost, 1 when something was, 5 when the app was not well to begin with.
    """
    from shoal.proving.disturbances import Saboteur, is_well
    from shoal.proving.report import HEADER, Report, lines, verdict
    from shoal.proving.targets import discovered, given, sound

    state, client = state_folder(file), connect(file)
    status = client.status()
    known = [service.name for service in status.services]
    for service in services:
        if service not in known:
            raise UsageError(f"there is no service '{clean(service)}'", way_out=f"there are: {', '.join(known)}")
    if not is_well(status):
        raise NotReadyError(f"{status.app} is not well: {status.reason}", way_out="see shoal status")
    saboteur = Saboteur(client, state)
    disturbances = saboteur.all(services)
    targets, left_out = sound(given(urls) if urls else discovered(status, str(state.mesh_socket)))
    if not targets:
        raise UsageError(
            "there is nothing to ask: no URL answers well" + "".join(f"\n  {line}" for line in left_out),
            way_out="name one: shoal prove --url http://localhost:8080/",
        )
    _ask(status.app, disturbances, yes=yes)

    begun = time.monotonic()
    chance = random.Random(seed if seed is not None else (drawn := random.randrange(1 << 31)))
    if minutes is not None and seed is None and not as_json:
        note(f"the order is that of --seed {drawn}")
    quiet, rows = _run(saboteur, disturbances, targets, rate, minutes, chance, quiet=as_json)
    report = Report(
        app=status.app,
        seconds=round(time.monotonic() - begun, 1),
        targets=tuple(str(target) for target in targets),
        left_out=tuple(left_out),
        quiet=quiet,
        rows=tuple(rows),
    )
    if as_json:
        emit({**dataclasses.asdict(report), "requests": report.requests, "lost": report.lost, "proven": report.proven})
    else:
        say("", *table(HEADER, lines(report)), "")
        for line in left_out:
            note(f"not asked: {clean(line)}")
        for row in rows:
            for reason in (*row.reasons, *([row.problem] if row.problem else [])):
                say(f"{row.name}: {clean(reason)}")
        say(verdict(report))
    return 0 if report.proven else 1


def _ask(app: str, disturbances: list[Disturbance], *, yes: bool) -> None:
    """Never on by accident. Raises UsageError where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this kills processes of the running app, and nobody is there to ask", way_out="add --yes")
    what = ", ".join(dict.fromkeys(each.kind for each in disturbances))
    if not click.confirm(f"Under load, do this to the running app {app}: {what}?", err=True):
        raise click.Abort


def _run(
    saboteur: Saboteur,
    disturbances: list[Disturbance],
    targets: list[Target],
    rate: float,
    minutes: float | None,
    chance: random.Random,
    *,
    quiet: bool,
) -> tuple[Row, list[Row]]:
    from shoal.proving.load import Load
    from shoal.proving.report import row

    rows: list[Row] = []
    with Load(targets, rate=rate) as load:
        time.sleep(QUIET_S)
        calm = row("nothing", "nothing", None, load.take(), recovery_s=0.0)
        try:
            for each in _order(disturbances, minutes, chance):
                found = _disturb(each, saboteur, load)
                rows.append(found)
                if not quiet:
                    lost = (
                        f"{found.lost} of {found.requests} lost" if found.lost else f"{found.requests} requests, 0 lost"
                    )
                    say(f"{each.name}: {lost}, well again after {found.recovery_s:.1f} s")
        except KeyboardInterrupt:
            note("interrupted; the report is of what was done")
    return calm, rows


def _order(disturbances: list[Disturbance], minutes: float | None, chance: random.Random) -> Iterator[Disturbance]:
    if minutes is None:
        yield from disturbances
        return
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        for each in chance.sample(disturbances, len(disturbances)):
            if time.monotonic() >= end:
                return
            yield each


def _disturb(each: Disturbance, saboteur: Saboteur, load: Load) -> Row:
    from shoal.proving.report import row

    problem, recovery_s = "", 0.0
    try:
        each.do()
        recovery_s = saboteur.wait_until_well()
    except ShoalError as error:
        problem = str(error)
    time.sleep(BETWEEN_S)  # the last requests of this one end
    return row(each.name, each.kind, each.service, load.take(), recovery_s=recovery_s, problem=problem)
