"""A service's revisions: how each ended, and the return to one of them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from shoal.control.dryrun import differences
from shoal.control.returning import misfit
from shoal.control.rollouts import settled_before, stable, started
from shoal.errors import ConflictError, MigratedError, NotFoundError
from shoal.model import event as ev
from shoal.model.migration import SUCCEEDED, MigrationRun, words
from shoal.model.replica import Replica
from shoal.model.rollout import RolloutState
from shoal.model.status import RevisionDiff, RevisionStatus
from shoal.model.world import Desired, Revision, Target


def history(target: Target, known: Sequence[Revision], replicas: Sequence[Replica]) -> tuple[RevisionStatus, ...]:
    """`known`: all of the service, oldest first."""
    outcomes = {outcome.revision: outcome for outcome in target.outcomes}
    rollout = target.rollout
    found = []
    for before, revision in zip([None, *known], known, strict=False):
        outcome = outcomes.get(revision.number)
        state = outcome.state.value if outcome is not None else ""
        if rollout is not None and rollout.under_way and rollout.revision == revision.number:
            state = rollout.state.value
        found.append(
            RevisionStatus(
                number=revision.number,
                created_at=revision.created_at,
                state=state,
                reason=outcome.reason if outcome is not None else "",
                changes=_changes(before, revision),
                source=revision.source,
                wanted=revision.number == target.revision.number,
                replicas=sum(r.revision == revision.number and r.runs for r in replicas),
                tail=outcome.tail if outcome is not None else (),
            )
        )
    return tuple(found)


def _changes(before: Revision | None, after: Revision) -> tuple[str, ...]:
    if before is None:
        return ()
    words = list(differences(before.service, after.service))
    if before.source != after.source:
        words.append("source")
    return tuple(words) or ("a port of a service that it calls",)


def difference(
    before: Revision, after: Revision, number: int | None, old: Mapping[str, str], new: Mapping[str, str]
) -> RevisionDiff:
    """`old`, `new`: their files, as `ports.Engine.files` gives them. `number`: None of what is no revision yet."""
    return RevisionDiff(
        service=before.service.name,
        before=before.number,
        after=number,
        changes=tuple(differences(before.service, after.service)),
        added=tuple(sorted(new.keys() - old.keys())),
        changed=tuple(sorted(path for path in old.keys() & new.keys() if old[path] != new[path])),
        removed=tuple(sorted(old.keys() - new.keys())),
    )


def roll_back(
    desired: Desired, target: Target, known: Sequence[Revision], to: int | None, now: float
) -> tuple[Desired, tuple[ev.RolloutEvent, ...]]:
    """A rollout to an older revision, with all of its spec but the number of replicas. NotFoundError: there is none;
    ConflictError: it runs already, or does not fit to the rest of the app."""
    name = target.service.name
    number = _previous(target, {r.number for r in known}) if to is None else to
    revision = known_as(name, known, number)
    if number == target.revision.number and (target.rollout is None or not target.rollout.went_wrong):
        raise ConflictError(f"{name} is at revision {number} already", way_out=f"see shoal revisions {name}")
    if target.rollout is not None and target.rollout.fallback is not None:
        fallback = target.rollout.fallback.revision
        revision = fallback if fallback.number == number else revision
    spec = replace(revision.service, replicas=target.service.replicas)
    back = Target(revision=replace(revision, service=spec), replicas=target.replicas, generation=target.generation)
    back, events = started(back, target, "rollback", now)
    services = tuple(spec if s.name == name else s for s in desired.app.services)
    app = replace(desired.app, services=services)
    after = replace(
        desired,
        app=app,
        generation=desired.generation + 1,
        at=now,
        targets={**desired.targets, name: back},
        stable=stable(desired),
    )
    if why := misfit(app, name, after):
        raise ConflictError(
            f"revision {number} of {name} does not fit to the app as it runs: {why}",
            way_out="deploy the app file of that time",
        )
    return after, events


def check_schema(target: Target, to: Revision, runs: Sequence[MigrationRun]) -> None:
    """MigratedError: migrations of later revisions have run, and nobody but a person knows whether the code of `to` can
    live with their schema."""
    later = [run for run in runs if run.revision > to.number and run.outcome == SUCCEEDED]
    if not later:
        return
    name, last, migration = target.service.name, later[-1], target.service.migrate
    undo = words(migration.reversible) if migration is not None else ""
    first = f"undo it first, with the code that runs now: shoal exec {name} -- {undo}; or " if undo else ""
    raise MigratedError(
        f"the migration of revision {last.revision} ({last.command}) has run since revision {to.number}, and stays",
        way_out=f"{first}if the older code can live with that schema: shoal rollback {name} --to {to.number} --yes",
    )


def known_as(name: str, known: Sequence[Revision], number: int | None) -> Revision:
    """NotFoundError: there is no such one."""
    revision = next((r for r in known if r.number == number), None)
    if revision is None:
        there = ", ".join(str(r.number) for r in known)
        what = f"has no revision {number}" if number is not None else "has no older revision that was rolled out"
        raise NotFoundError(f"{name} {what}", way_out=f"there are: {there}; see shoal revisions {name}")
    return revision


def _previous(target: Target, known: Collection[int]) -> int | None:
    """The last that was completely rolled out, other than what is wanted now, and is still there."""
    if target.rollout is not None and target.rollout.under_way:
        settled = settled_before(target)
        return settled.revision.number if settled is not None else None
    done = [o.revision for o in target.outcomes if o.state is RolloutState.COMPLETED and o.revision in known]
    return next((number for number in reversed(done) if number != target.revision.number), None)
