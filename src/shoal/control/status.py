"""What is wanted and what is there, as people see it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from shoal.control import policies, probes
from shoal.control.egress import egress_settings
from shoal.control.jobs import health as job_health
from shoal.control.jobs import job_status
from shoal.control.jobs import settings as job_settings
from shoal.control.lag import unknown
from shoal.control.rolling import rolling_health, rollout_status
from shoal.model import action as act
from shoal.model.app import App, Command, External, Port, Protocol, PythonApp, Service
from shoal.model.lag import NOTHING, Lag
from shoal.model.replica import Replica, ReplicaState
from shoal.model.resources import Resource
from shoal.model.status import (
    AppStatus,
    ExitStatus,
    Explanation,
    GatewayStatus,
    Health,
    JobStatus,
    PortStatus,
    ProxyStatus,
    ReplicaStatus,
    RouteStatus,
    ServiceStatus,
    Setting,
)
from shoal.model.surroundings import Static
from shoal.model.topology import EdgeMap
from shoal.model.world import Desired, Observed, ProxyState, Target
from shoal.planner import Plan
from shoal.planner.defaults import LATE_S
from shoal.planner.healing import in_crash_loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a status says of Shoal itself."""

    folder: str
    version: str
    pid: int
    names: str
    names_reason: str
    no_way_out: str = ""
    """Why networks of their own have no way to the outside here; empty: they have one."""
    socket: str = ""
    """Of the API."""


_ORDER = list(Health)
SETTLED = (Health.READY, Health.STOPPED, Health.COMPLETED)
"""There is nothing to wait for."""


def app_status(
    desired: Desired | None,
    observed: Observed,
    plan: Plan,
    identity: Identity,
    sequence: int,
    now: float = 0.0,
    lag: Lag = NOTHING,
) -> AppStatus:
    targets = desired.targets.values() if desired is not None else ()
    services: tuple[ServiceStatus, ...] = ()
    jobs: tuple[JobStatus, ...] = ()
    if desired is not None:
        services = tuple(service_status(t, desired, observed, plan, lag) for t in targets if t.service.job is None)
        jobs = tuple(
            job_status(t, desired, observed, now, what=runs(t.service)) for t in targets if t.service.job is not None
        )
    proxy = observed.proxy
    proxy_failing = proxy.state is ProxyState.BACKING_OFF
    if desired is None:
        health, reason = Health.STOPPED, "nothing is deployed"
    elif desired.down:
        health, reason = Health.STOPPING, "goes down"
    else:
        health = min((s.health for s in services), key=_ORDER.index, default=Health.READY)
        settled = sum(s.health in SETTLED for s in services)
        reason = f"{settled} of {len(services)} services ready"
        if health in SETTLED and any(s.health is Health.READY for s in services):
            health = Health.READY
        if proxy_failing:
            health, reason = Health.FAILING, f"Envoy: {proxy.last_error}"
        elif observed.mesh_generation < desired.generation and health is Health.READY:
            health, reason = Health.STARTING, "Envoy has not confirmed its configuration"
    return AppStatus(
        app=desired.app.name if desired else "",
        folder=identity.folder,
        version=identity.version,
        daemon_pid=identity.pid,
        generation=desired.generation if desired else 0,
        health=health,
        reason=reason,
        names=identity.names,
        names_reason=identity.names_reason,
        proxy=ProxyStatus(
            state=proxy.state.value,
            pid=proxy.pid,
            reason=proxy.last_error if proxy_failing else "",
            rejected=dict(observed.rejected),
        ),
        gateway=_gateway(desired.app) if desired else None,
        services=services,
        jobs=jobs,
        sequence=sequence,
        socket=identity.socket,
        inboxes=tuple(one for one in lag.inboxes if one.consumer not in {s.name for s in services}),
    )


def _gateway(app: App) -> GatewayStatus | None:
    if app.gateway is None:
        return None
    routes = tuple(
        RouteStatus(host=r.host, path=r.path, service=r.service, port=r.port, rewrite=r.rewrite)
        for r in app.gateway.routes
    )
    return GatewayStatus(address=f"http://localhost:{app.gateway.port}", port=app.gateway.port, routes=routes)


def service_status(
    target: Target, desired: Desired, observed: Observed, plan: Plan, lag: Lag = NOTHING
) -> ServiceStatus:
    service = target.service
    ports = _ports(service)
    replicas = [r for r in observed.of(service.name) if r.state is not ReplicaState.GONE]
    ready = [r for r in replicas if r.state is ReplicaState.READY]
    waits = {w.subject: w.reason for w in plan.waits}
    health, reason = _health(target, desired, replicas, len(ready), waits.get(service.name, ""))
    return ServiceStatus(
        name=service.name,
        health=health,
        reason=reason,
        runs=runs(service),
        revision=target.revision.number,
        wanted=0 if desired.down else target.replicas,
        ready=len(ready),
        port=service.port,
        address=next((each.address for each in ports if each.address), None),
        ports=ports,
        protocol=service.protocol.value,
        calls=service.calls,
        replicas=tuple(replica_status(r, waits.get(r.id, "")) for r in replicas),
        faults=tuple(policies.faults(service)),
        rollout=rollout_status(target, replicas, waits.get(service.name, "")),
        inbox=next((one for one in lag.inboxes if one.consumer == service.name), None),
        outbox=lag.outboxes.get(service.name),
        lag_unknown=tuple(unknown(service, lag)),
    )


def _ports(service: Service) -> tuple[PortStatus, ...]:
    return tuple(
        PortStatus(name=port.name, port=port.number, protocol=port.protocol.value, address=_address(port))
        for port in service.every_port
    )


def _address(port: Port) -> str | None:
    if not port.publish:
        return None
    return f"http://localhost:{port.number}" if port.protocol is Protocol.HTTP else f"localhost:{port.number}"


def _health(target: Target, desired: Desired, replicas: list[Replica], ready: int, wait: str) -> tuple[Health, str]:
    if target.service.job is not None:
        return job_health(replicas)
    wanted = target.replicas
    current = [r for r in replicas if not r.leaving]
    settled = (ReplicaState.READY, ReplicaState.COMPLETED)
    looping = [r for r in current if in_crash_loop(r) and r.state not in settled]
    if desired.down:
        return (Health.STOPPING, f"{len(replicas)} still run") if replicas else (Health.STOPPED, "is down")
    if looping:
        worst = max(looping, key=lambda r: r.crashes)
        why = worst.last_exit.reason if worst.last_exit else "it ends"
        serving = f"; {ready} of {wanted} ready" if ready else ""
        return Health.FAILING, f"crash loop: {why} ({worst.crashes} times in a row){serving}"
    if target.service.is_external:
        return Health.READY, "outside: Shoal does not run it"
    rolling = rolling_health(target, replicas, ready, wait)
    if rolling is not None:
        return rolling
    outdated = [r for r in current if not target.is_current(r)]
    if wanted == 0 and not current:
        return Health.STOPPED, "scaled to 0"
    failed = next((r for r in current if r.state is ReplicaState.FAILED and r not in outdated), None)
    if failed is not None:
        why = failed.last_exit.reason if failed.last_exit else "it ended"
        return Health.FAILING, f"{failed.id}: {why}; not started again (restart: never)"
    completed = sum(r.state is ReplicaState.COMPLETED for r in current)
    if completed and ready + completed >= wanted and not outdated:
        return (Health.READY if ready else Health.COMPLETED), f"{completed} of {wanted} completed"
    if ready >= wanted and not outdated:
        return Health.READY, f"{ready} of {wanted} ready"
    if outdated:
        return Health.STARTING, f"revision {target.revision.number} replaces {len(outdated)} older replicas"
    if wait and not current:
        return Health.WAITING, wait
    if any(r.state in (ReplicaState.UNREADY, ReplicaState.RESTARTING) for r in current) or ready:
        return Health.DEGRADED, f"{ready} of {wanted} ready"
    crashed = next((r for r in current if r.state is ReplicaState.BACKING_OFF and r.last_exit), None)
    if crashed is not None and crashed.last_exit is not None:
        return Health.STARTING, f"{crashed.last_exit.reason}; starts again"
    progress = next((r.progress for r in current if r.progress), "")
    late = next((f"{r.id} is {_why(r)}" for r in current if r.late and r.state is ReplicaState.STARTING), "")
    return Health.STARTING, progress or late or f"{ready} of {wanted} ready"


def replica_status(replica: Replica, wait: str) -> ReplicaStatus:
    end = replica.last_exit
    return ReplicaStatus(
        id=replica.id,
        service=replica.service,
        revision=replica.revision,
        state=replica.state.value,
        reason=wait or _why(replica),
        since=replica.since,
        attempt=replica.attempt,
        crashes=replica.crashes,
        pid=replica.pid,
        address=str(replica.address) if replica.address else None,
        last_exit=ExitStatus(at=end.at, code=end.code, reason=end.reason, tail=end.tail) if end else None,
    )


def _why(replica: Replica) -> str:
    match replica.state:
        case ReplicaState.STARTING:
            if replica.progress:
                return replica.progress
            late = f" after {LATE_S:g} s" if replica.late else " yet"
            return f"not ready{late}: {replica.probe_detail}" if replica.probe_detail else "starts"
        case ReplicaState.READY:
            return f"ready, last probe failed: {replica.probe_detail}" if replica.failures else "answers its probe"
        case ReplicaState.UNREADY:
            return f"out of Envoy: {replica.probe_detail}"
        case ReplicaState.RESTARTING:
            return f"out of Envoy, restarts: {replica.doomed}"
        case ReplicaState.BACKING_OFF:
            return replica.last_exit.reason if replica.last_exit else "ended"
        case ReplicaState.COMPLETED:
            return "exit code 0, all done"
        case ReplicaState.FAILED:
            return f"{replica.last_exit.reason if replica.last_exit else 'ended'}; not started again (restart: never)"
        case ReplicaState.DRAINING:
            return "finishes what it has"
        case ReplicaState.STOPPING:
            return "was told to stop"
        case ReplicaState.GONE:
            return "has ended"


def runs(service: Service) -> str:
    match service.workload:
        case PythonApp():
            return f"run {service.workload.target}"
        case Command(argv=("/bin/sh", "-c", text)):
            return f"command {text}"
        case Command():
            return "command " + " ".join(service.workload.argv)
        case External():
            return f"external {service.workload}" + (" over TLS" if service.workload.tls else "")
        case Static():
            return f"static {service.workload}"
        case Resource():
            return f"resource {service.workload.kind}" + (f" {image}" if (image := service.workload.image) else "")


def explain(
    target: Target,
    desired: Desired,
    observed: Observed,
    plan: Plan,
    edges: EdgeMap,
    no_way_out: str = "",
    lag: Lag = NOTHING,
) -> Explanation:
    """`no_way_out`: as in `Identity`."""
    service = target.service
    name = service.name
    own = {r.id for r in observed.of(name)}
    decisions = tuple(
        f"{verb} {action.replica}: {action.reason}"
        for action in plan.actions
        if (verb := _verb(action)) is not None
        and not isinstance(
            action, act.StartProxy | act.ReplaceProxy | act.StopProxy | act.PrepareRevision | act.MoveRollout
        )
        and (action.replica in own or (isinstance(action, act.StartReplica) and action.service == name))
    )
    return Explanation(
        service=service_status(target, desired, observed, plan, lag),
        settings=_settings(target, desired, no_way_out),
        decisions=decisions,
        waits=tuple(f"{w.subject}: {w.reason}" for w in plan.waits if w.subject == name or w.subject in own),
        reaches={
            f"{callee}:{port.name}" if port.number != desired.app.service(callee).port else callee: (
                f"{edges.address(name, callee)}:{port.number}"
            )
            for callee in service.calls
            for port in desired.app.service(callee).every_port
        },
        called_by=tuple(s.name for s in desired.app.services if name in s.calls),
        edges=policies.of_calls(desired.app, service),
    )


def _verb(action: act.Action) -> str | None:
    match action:
        case act.StartReplica():
            return "start"
        case act.DrainReplica():
            return "drain"
        case act.StopReplica():
            return "stop"
        case act.KillReplica():
            return "kill"
        case act.ForgetReplica() | act.StartProxy() | act.ReplaceProxy() | act.StopProxy():
            return None
        case act.PrepareRevision() | act.MoveRollout():
            return None


def _after(service: Service) -> list[str]:
    """`db`, `db-init: completed`."""
    barriers = dict(service.barriers)
    return [f"{other}: {barriers[other]}" if other in barriers else other for other in service.after]


def _source(target: Target) -> str:
    source = target.revision.source
    return f"as it was deployed, {source[:8]}" if source else "as it is now: not reproducible"


def _step(service: Service) -> str:
    if service.build is None:
        return "as its lock file asks for"
    shell = service.build[:2] == ("/bin/sh", "-c")
    return service.build[2] if shell else " ".join(service.build) or "off"


def _settings(target: Target, desired: Desired, no_way_out: str) -> tuple[Setting, ...]:
    service = target.service
    plain = Service(name=service.name, workload=service.workload, folder=service.folder)

    def setting(name: str, value: object, default: object, source: str = "") -> Setting:
        return Setting(name=name, value=str(value), source=source or ("default" if value == default else "app file"))

    scaled = "shoal scale" if target.replicas != service.replicas else ""
    ports = ", ".join(f"{port.name}: {port.number} ({port.protocol})" for port in service.ports)
    return (
        setting("runs", runs(service), None),
        setting("folder", service.folder, None),
        setting("source", _source(target), None, "snapshot" if target.revision.source else "working tree"),
        setting("port", service.port if service.port is not None else "none: a worker", "none: a worker"),
        setting("protocol", service.protocol.value, plain.protocol.value),
        setting("ports", ports or "none", "none"),
        setting("publish", "yes" if service.publish else "no", "yes" if service.port else "no"),
        setting("replicas", target.replicas, plain.replicas, scaled),
        *probes.settings(service),
        setting("build", _step(service), "as its lock file asks for"),
        setting("calls", ", ".join(service.calls) or "none", "none"),
        *(Setting(name=name, value=value, source="app file") for name, value in job_settings(service)),
        setting("after", ", ".join(_after(service)) or "none", "none"),
        setting("restart", service.restart.value, plain.restart.value),
        setting("stop_signal", service.stop_signal, plain.stop_signal),
        setting("rewrite_host", service.rewrite_host or "no", "no"),
        *egress_settings(service, no_way_out),
        *policies.of_service(desired.app, service),
        setting("names", service.names.value, plain.names.value),
        setting("env_file", ", ".join(service.env_files) or "none", "none"),
        *(Setting(name="file", value=file.target, source="app file") for file in service.files),
        *(Setting(name="volume", value=str(volume), source="app file") for volume in service.volumes),
        *(
            Setting(name=name, value=version, source="app file")
            for name, version in (("python", service.python), ("node", service.node))
            if version
        ),
        *(Setting(name=f"env {key}", value="set", source="app file") for key, _ in service.env),
    )
