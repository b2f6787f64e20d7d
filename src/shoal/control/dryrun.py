"""What a deploy would do: the same functions that a deploy uses, on a copy. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import assert_never

from shoal.control.revisions import NO_SOURCES, next_desired
from shoal.control.rollouts import deployed
from shoal.model import action as act
from shoal.model.app import App, Command, Job, PythonApp, Service
from shoal.model.policy import RolloutPolicy
from shoal.model.status import Change, ChangeKind, DryRun
from shoal.model.surroundings import GivenFile, Static
from shoal.model.traffic import Policy, words
from shoal.model.world import Desired, Observed, Revision, Target
from shoal.planner import plan

_KEYS = {"folder": "cwd", "port_name": "ports", "name": ""}
"""Field of the model -> key of the app file, where they are not the same. Empty: never differs."""


def dry_run(
    app: App,
    current: Desired | None,
    newest: Mapping[str, Revision],
    observed: Observed,
    now: float,
    sources: Mapping[str, str] = NO_SOURCES,
) -> DryRun:
    """`newest`, `sources`: as `next_desired` has them. Changes nothing."""
    desired, fresh, removed = next_desired(app, current, dict(newest), now, sources)
    desired, _ = deployed(desired, current, now)
    numbers = {revision.service.name: revision.number for revision in fresh}
    before = {} if current is None or current.down else current.targets
    # As it will be when Envoy has the deploy's listeners: else every start would only wait for them.
    ready = replace(observed, mesh_generation=max(observed.mesh_generation, desired.generation))
    decided = plan(desired, ready, now)
    return DryRun(
        app=app.name,
        generation=desired.generation,
        changes=(
            *(_change(target, before.get(name), numbers.get(name)) for name, target in desired.targets.items()),
            *(Change(service=name, change=ChangeKind.REMOVED) for name in removed),
        ),
        gateway=_gateway(app, current),
        decisions=tuple(f"{_words(action)}: {action.reason}" for action in decided.actions),
        waits=tuple(f"{wait.subject}: {wait.reason}" for wait in decided.waits),
    )


def _change(target: Target, before: Target | None, revision: int | None) -> Change:
    name = target.service.name
    if before is None:
        return Change(service=name, change=ChangeKind.NEW, revision=revision)
    reasons = list(differences(before.service, target.service))
    if before.replicas != target.replicas:
        reasons = [reason for reason in reasons if not reason.startswith("replicas:")]
        reasons.append(f"replicas: {before.replicas} -> {target.replicas}")
    if before.revision.source != target.revision.source:
        reasons.append("its source")
    if revision is not None and before.revision.digest != target.revision.digest and not reasons:
        reasons.append("a port of a service that it calls")
    if not reasons and before.revision.number == target.revision.number:
        return Change(service=name, change=ChangeKind.UNCHANGED)
    return Change(service=name, change=ChangeKind.CHANGED, reasons=tuple(reasons), revision=revision)


def differences(before: Service, after: Service) -> Iterator[str]:
    for field in fields(Service):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old == new:
            continue
        if field.name == "env":
            yield from _variables(dict(old), dict(new))
        elif field.name == "traffic":
            yield from _policies("", old, new)
        elif field.name == "edges":
            for callee in dict([*old, *new]):
                yield from _policies(f"calls.{callee}.", before.edge(callee), after.edge(callee))
        elif field.name == "files":
            yield from _files({one.target: one for one in old}, {one.target: one for one in new})
        elif field.name == "job":
            yield from _job(old or Job(), new or Job())
        elif field.name == "rollout":
            yield from _rolling(old, new)
        elif field.name == "workload":
            yield f"{_shown(old)} -> {_shown(new)}"
        elif key := _KEYS.get(field.name, field.name):
            yield f"{key}: {_shown(old)} -> {_shown(new)}"


def _policies(where: str, before: Policy, after: Policy) -> Iterator[str]:
    old, new = words(before), words(after)
    for key in {**old, **new}:
        if old.get(key) != new.get(key):
            yield f"{where}{key}: {old.get(key, 'default')} -> {new.get(key, 'default')}"


def _job(before: Job, after: Job) -> Iterator[str]:
    if before.schedule != after.schedule:
        yield f"schedule: {_shown(before.schedule)} -> {_shown(after.schedule)}"
    if before.timeout_s != after.timeout_s:
        yield f"timeout: {_shown(before.timeout_s)} -> {_shown(after.timeout_s)}"


def _files(before: Mapping[str, GivenFile], after: Mapping[str, GivenFile]) -> Iterator[str]:
    """Paths only: a file may be a key."""
    for target in sorted(before.keys() | after.keys()):
        if before.get(target) != after.get(target):
            how = " (new)" if target not in before else " (gone)" if target not in after else ""
            yield f"files.{target}{how}"


def _rolling(before: RolloutPolicy, after: RolloutPolicy) -> Iterator[str]:
    for field in fields(RolloutPolicy):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old != new:
            key, unit = field.name.removesuffix("_s"), "s" if field.name.endswith("_s") else ""
            shown = {True: "auto", False: "off"} if key == "rollback" else {}
            yield f"rollout.{key}: {shown.get(old, f'{old:g}{unit}')} -> {shown.get(new, f'{new:g}{unit}')}"


def _variables(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """Names only: a value may be a password."""
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            how = " (new)" if name not in before else " (gone)" if name not in after else ""
            yield f"env.{name}{how}"


def _shown(value: object) -> str:
    match value:
        case PythonApp():
            return f"run {value.target}"
        case Command():
            shell = value.argv[:2] == ("/bin/sh", "-c")
            return "command " + (value.argv[2] if shell else " ".join(value.argv))
        case Static():
            return f"static {value}"
        case None | "" | ():
            return "none"
        case bool():
            return "true" if value else "false"
        case tuple():
            return ", ".join(_shown(item) for item in value)
        case _:
            return str(value)


def _gateway(app: App, current: Desired | None) -> ChangeKind | None:
    before = None if current is None or current.down else current.app.gateway
    if app.gateway is None:
        return None if before is None else ChangeKind.REMOVED
    if before is None:
        return ChangeKind.NEW
    return ChangeKind.UNCHANGED if before == app.gateway else ChangeKind.CHANGED


def _words(action: act.Action) -> str:
    match action:
        case act.StartReplica():
            return f"start {action.replica} (revision {action.revision})"
        case act.PrepareRevision():
            return f"make revision {action.revision} of {action.service} ready"
        case act.MoveRollout():
            return f"{action.service}: {action.trigger}"
        case act.DrainReplica():
            return f"drain {action.replica}"
        case act.StopReplica():
            return f"stop {action.replica}"
        case act.KillReplica():
            return f"kill {action.replica}"
        case act.ForgetReplica():
            return f"forget {action.replica}"
        case act.StartProxy():
            return "start Envoy"
        case act.ReplaceProxy():
            return "replace Envoy"
        case act.StopProxy():
            return "stop Envoy"
        case _:
            assert_never(action)
