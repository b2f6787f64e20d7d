"""Makes ready all that one start of a replica needs, and puts it into words for the keeper."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from shoal.engines.local import endings, names, old_logs, pins, sdk, surroundings
from shoal.engines.local.confidential import Confidential, hidden_parts, hideable
from shoal.engines.local.environments import Environment, Environments
from shoal.engines.local.given import Given
from shoal.engines.local.hosts import HostsFiles
from shoal.engines.local.keeper import outside
from shoal.engines.local.keeper.registry import variables_of
from shoal.engines.local.migrations import locked
from shoal.engines.local.networks import resolver, ways_out
from shoal.engines.local.networks.addresses import AddressLeases
from shoal.engines.local.overlays import Overlays
from shoal.engines.local.ports import PortLeases
from shoal.engines.local.resources.kept import Resources, Run, passwords_in
from shoal.engines.local.shared_names import SharedNames
from shoal.engines.local.sources import sites
from shoal.engines.local.sources.homes import Furnishing, Home, Homes
from shoal.engines.local.sources.snapshots import Snapshot
from shoal.engines.local.surroundings import Place
from shoal.engines.local.tags import ReplicaTag
from shoal.engines.local.uv import Progress
from shoal.errors import EngineError, ShoalError
from shoal.model import secrets
from shoal.model.app import App, Command, Names, Network, Protocol, PythonApp, Service
from shoal.model.event import ReplicaProgressed, RevisionProgressed, Warned
from shoal.model.health import HealthCheck
from shoal.model.migration import Migration
from shoal.model.replica import Address, TcpAddress, UnixAddress
from shoal.model.resources import Resource
from shoal.model.status import ExecContext
from shoal.model.surroundings import Static
from shoal.model.topology import EdgeMap
from shoal.model.world import Revision
from shoal.paths import StateFolder
from shoal.planner.environment import LOOPBACK, variable_prefix
from shoal.ports import Clock, Inbox, Launch, Preparation


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A start that only the keeper has to do now."""

    request: dict[str, object]
    """The fields of `spawn` beside the name."""
    own_address: str | None = None
    """Of a replica with a network of its own: its address there."""
    resolv: str | None = None
    """Its own resolv.conf there; None: the machine's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Furnished:
    """What the replicas of a revision share."""

    home: Home
    environment: Environment | None
    overlay: Path | None
    tools: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inside:
    """What a command finds that runs as a part of a service."""

    place: Place
    env: dict[str, str]
    confidential: list[str]
    """Values in `env` that nobody else should see."""
    folder: Path


class Launcher:
    """`named`: whether processes can have private hosts files here; set once it is known. `shared`: the hosts file that
    all read in its place, where we may write into that."""

    def __init__(
        self, state: StateFolder, *, inbox: Inbox, clock: Clock, python: Path, confidential: Confidential | None = None
    ) -> None:
        self.named = False
        self.names_reason = ""
        self.shared: SharedNames | None = None
        self.ports = PortLeases(str(state.root))
        self.addresses = AddressLeases()
        self._state = state
        self._inbox = inbox
        self._clock = clock
        self.homes = Homes(state, warn=self.warn)
        self._environments = Environments(state.environments, python=python)
        self._overlays = Overlays(state.environments / "overlays")
        self._hosts = HostsFiles(state.hosts)
        self._given = Given(state)
        self._base = surroundings.base_environment(os.environ)
        self.resources = Resources(state, self.ports)
        self.confidential = confidential or Confidential(state)
        self._variables: dict[str, Mapping[str, str]] = {}
        self._warned: set[tuple[str, str]] = set()

    async def prepare(self, launch: Launch) -> Prepared:
        """Environment, port or socket, hosts file, variables and command line. May take minutes. EngineError."""
        app, edges, service = launch.app, launch.edges, launch.revision.service

        async def progress(message: str) -> None:
            await self._inbox.put(ReplicaProgressed(at=self._clock.now(), replica=launch.replica, message=message))

        if isinstance(service.workload, Resource):
            return self._of_resource(launch, await self.resources.start(service, progress))
        await self.resources.ensure(service)
        shared = await self._furnished(launch.revision, app, edges, progress)
        service = _at_home(service, shared.home)
        own = self.addresses.lease(launch.replica) if service.network is Network.OWN else None
        way_out = own is not None and service.egress is None and ways_out.detect()[0]
        address = self._address(launch.replica, app, service, own)
        ports = self._further(launch.replica, app, service, own)
        place = Place(
            replica=launch.replica,
            data_dir=self._data_folder(service),
            environment=shared.environment,
            named=self._is_named(service),
            port=address.port if isinstance(address, TcpAddress) else None,
            ports={name: where.port for name, _, where in ports},
            socket=Path(address.path) if isinstance(address, UnixAddress) else None,
            overlay=shared.overlay,
            sdk=await asyncio.to_thread(sdk.folder, self._state),
            tools=shared.tools,
            **await asyncio.to_thread(self._given_at_start, app, service, edges, launch.replica),
        )
        namespace = self._namespace(app, edges, service, place)
        await self.share(app, edges)
        tag = ReplicaTag(
            replica=launch.replica,
            service=service.name,
            number=launch.revision.number,
            attempt=launch.attempt,
            address=address,
            health=_filled(service.health, app, service, edges, place),
            hosts=str(namespace["hosts"]) if namespace else None,
            files=_sources(namespace),
            foreground=endings.foreground(service.workload.argv) if isinstance(service.workload, Command) else "",
            asked_at=self._clock.now(),
            eager=app.dev,
            protocol=service.protocol,
            ports=ports,
            folder=service.folder,
            own_address=own,
            way_out=way_out,
            stop_signal=service.stop_signal,
            startup=_filled(service.startup, app, service, edges, place),
            liveness=_filled(service.liveness, app, service, edges, place),
            # Where a person debugs, what stands still is no mistake; and a job may be paused.
            restart_hung=service.restart_hung and not app.dev and service.job is None,
        )
        env = surroundings.environment(self._base, app, service, edges, place)
        argv = surroundings.argv(app, service, edges, place)
        if tag.commands:
            self._variables[launch.replica] = env
        confidential = hideable([*place.secrets.values(), *passwords_in(place.given)])
        return Prepared(
            own_address=own,
            resolv=self.resolv(service) if way_out else None,
            request={
                "argv": [sys.executable, "-I", "-S", outside.__file__, "--", *argv] if way_out else argv,
                "env": env,
                "cwd": service.folder,
                "log": str(self.log_of(service.name, launch.replica)),
                "tag": tag.to_json(),
                "namespace": namespace,
                "hidden": hidden_parts(env, confidential),
                "hide": confidential,
            },
        )

    def _of_resource(self, launch: Launch, run: Run) -> Prepared:
        service = launch.revision.service
        port = str(run.port)
        health = service.health
        if isinstance(health, HealthCheck):
            health = replace(health, command=tuple(part.replace("${port}", port) for part in health.command))
        monitoring: tuple[tuple[str, Protocol, Address], ...] = ()
        if run.monitoring is not None:
            monitoring = (("monitoring", Protocol.HTTP, TcpAddress(host=LOOPBACK, port=run.monitoring)),)
        tag = ReplicaTag(
            replica=launch.replica,
            service=service.name,
            number=launch.revision.number,
            attempt=launch.attempt,
            address=TcpAddress(host=LOOPBACK, port=run.port),
            health=health,
            liveness=service.liveness,
            ports=monitoring,
            hosts=None,
            asked_at=self._clock.now(),
            eager=True,
            protocol=service.protocol,
            stop_signal=service.stop_signal,
        )
        self._variables[launch.replica] = run.env
        return Prepared(
            request={
                "argv": run.argv,
                "env": run.env,
                "cwd": str(run.folder),
                "log": str(self.log_of(service.name, launch.replica)),
                "tag": tag.to_json(),
                "namespace": None,
            }
        )

    def _given_at_start(self, app: App, service: Service, edges: EdgeMap, whose: str) -> dict[str, Any]:
        """Of its `Place`: where its data is, and its secrets. Blocks. EngineError; StoreError."""
        values = self.confidential.values(app, service)
        given = self.resources.variables(app, service, edges, lambda text: secrets.fill(text, values))
        return {"given": given | self.confidential.files(service, values, whose), "secrets": values}

    def resolv(self, service: Service) -> str | None:
        """Of a service with a way out. EngineError."""
        path = resolver.file_for(self._state.hosts) if service.egress is None else None
        return None if path is None else str(path)

    def check_surroundings(self, app: App) -> list[str]:
        """One line for each service that cannot have what it wants around it here."""
        found = self.confidential.missing(app)
        for service in app.services:
            try:
                self._check_names(service)
                self._given.check(app, service)
            except EngineError as error:
                found.append(str(error))
        return found

    def migration(self, preparation: Preparation, migration: Migration) -> dict[str, object]:
        """What the keeper is asked for, once the revision is furnished. Blocks. EngineError."""
        revision, app, edges = preparation.revision, preparation.app, preparation.edges
        # On the machine's network: there is no mesh around it, and the database is reached straight.
        service = replace(revision.service, network=Network.HOST)
        inside = self._inside(app, edges, replace(revision, service=service))
        log = self.migration_log(revision)
        try:
            # The keeper makes it with the first line of the log, and a migration may have nothing to say.
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"{log.parent} cannot be written: {error.strerror}") from error
        return {
            "argv": [
                *(sys.executable, "-I", "-S", locked.__file__, str(migration.timeout_s)),
                str(log.with_suffix(".exit")),
                *self.resources.lock(service),
                *("--", *migration.command),
            ],
            "env": inside.env,
            "cwd": str(inside.folder),
            "hidden": hidden_parts(inside.env, hideable(inside.confidential)),
            "hide": hideable(inside.confidential),
            "log": str(log),
            "tag": {"kind": "migration", "started_at": self._clock.now()},
            "namespace": None,
        }

    def migration_log(self, revision: Revision) -> Path:
        return self._state.logs / revision.service.name / f"migrate-{revision.number}.log"

    async def furnish(self, preparation: Preparation) -> None:
        """Makes what the replicas of a revision share: its environment, its copy of the source. EngineError."""
        revision = preparation.revision
        if revision.service.is_external or isinstance(revision.service.workload, Resource):
            return

        await self._furnished(revision, preparation.app, preparation.edges, self.progress(revision))

    def progress(self, revision: Revision) -> Progress:
        """Tells how far its making is."""

        async def told(message: str) -> None:
            now = self._clock.now()
            event = RevisionProgressed(at=now, service=revision.service.name, revision=revision.number, message=message)
            await self._inbox.put(event)

        return told

    async def _furnished(self, revision: Revision, app: App, edges: EdgeMap, progress: Progress) -> _Furnished:
        service = revision.service
        snapshot = await asyncio.to_thread(self.homes.snapshot_of, revision)
        environment: Environment | None = None
        overlay: Path | None = None
        own: Path | None = None
        if _has_python(service, dev=app.dev):
            found = await self._environments.prepare(
                Path(service.folder), Path(app.folder), progress,
                dev=app.dev, snapshot=snapshot, python=service.python, service=service.name,
            )  # fmt: skip
            environment, overlay = await self._for_workload(service, found, progress)
            own = found.python if found.folder is None else None
        tools = await asyncio.to_thread(self._tools, app, service, snapshot, own)
        furnishing = self._furnishing(revision, snapshot, app, edges, environment, tools)
        if sites.is_outside(service) and snapshot is not None:
            await self.warn(
                service.name,
                f"serves {sites.folder_of(service, Path(service.folder))}, which is outside its folder and so no part "
                "of a revision",
                "name the folder that it is in: cwd",
            )
        home = await self.homes.ready(furnishing, progress)
        return _Furnished(home=home, environment=environment, overlay=overlay, tools=tools)

    def _tools(self, app: App, service: Service, snapshot: Snapshot | None, own: Path | None) -> tuple[Path, ...]:
        return pins.tools(app, service, snapshot, own, self._base.get("PATH", os.defpath))

    def _furnishing(
        self,
        revision: Revision,
        snapshot: Snapshot | None,
        app: App,
        edges: EdgeMap,
        environment: Environment | None,
        tools: tuple[Path, ...],
    ) -> Furnishing:
        service = revision.service
        place = Place(
            replica=f"{service.name}-build",
            data_dir=self._data_folder(service),
            environment=environment,
            named=False,
            secrets=defaultdict(str),  # a build has none: what it makes is kept, and its log is not looked through
            sdk=sdk.folder(self._state),
            tools=tools,
        )
        return Furnishing(
            revision=revision,
            snapshot=snapshot,
            environment=environment.folder if environment is not None else None,
            env=surroundings.environment(self._base, app, service, edges, place),
        )

    def exec_context(self, app: App, edges: EdgeMap, revision: Revision) -> ExecContext:
        """EngineError: its snapshot, or the inputs of its environment, cannot be read."""
        inside = self._inside(app, edges, revision)
        namespace = self._namespace(app, edges, revision.service, inside.place) or {}
        files = namespace.get("files")
        told, kept_back = self.confidential.apart(inside.env, inside.confidential)
        return ExecContext(
            env=told,
            kept_back=kept_back,
            folder=str(inside.folder),
            hosts=namespace.get("hosts"),
            nsswitch=namespace.get("nsswitch"),
            files=json.dumps(files) if files is not None else None,
        )

    def _inside(self, app: App, edges: EdgeMap, revision: Revision) -> _Inside:
        """Where a command finds itself that runs as a part of the service. EngineError."""
        snapshot = self.homes.snapshot_of(revision)
        service = revision.service
        environment: Environment | None = None
        if _has_python(service, dev=app.dev):
            environment = self._environments.locate(
                Path(service.folder), Path(app.folder),
                dev=app.dev, snapshot=snapshot, python=service.python, service=service.name,
            )  # fmt: skip
        own = environment.python if environment is not None and environment.folder is None else None
        tools = self._tools(app, service, snapshot, own)
        if environment is not None and environment.folder is not None and not environment.folder.exists():
            environment = None
        if environment is not None and environment.folder is None and not isinstance(service.workload, PythonApp):
            environment = None
        home = self.homes.locate(self._furnishing(revision, snapshot, app, edges, environment, tools))
        # Before the first replica there is no copy: the working tree is as near as it gets.
        folder = home.folder if home.folder.is_dir() else Path(service.folder)
        place = Place(
            replica=f"{service.name}-exec",
            data_dir=self._data_folder(service),
            environment=environment,
            named=self._is_named(service),
            sdk=sdk.folder(self._state),
            tools=tools,
            **self._given_at_start(app, service, edges, f"{service.name}-exec"),
        )
        env = surroundings.environment(self._base, app, service, edges, place)
        confidential = [*place.secrets.values(), *passwords_in(place.given)]
        return _Inside(place=place, env=env, confidential=confidential, folder=folder)

    def variables(self, tag: ReplicaTag, pid: int) -> Mapping[str, str]:
        """Of a running replica, for its probes by command; those of one that an earlier daemon started are read from
        its process. Empty where there are none."""
        if not tag.commands:
            return {}
        return self._variables.get(tag.replica) or variables_of(pid)

    def collect(
        self, revisions: Collection[Revision], *, folders: Collection[Path], pids: Collection[int], logs: set[Path]
    ) -> None:
        """Removes what none of the revisions needs, and nothing that runs: `folders` are those of the replicas that do,
        `pids` their processes, `logs` what they write. Blocks."""
        app_folder = self._state.root.parent
        used = (variables_of(pid).get("VIRTUAL_ENV") for pid in pids)
        environments = {Path(folder) for folder in used if folder}
        try:
            for revision in revisions:
                service = revision.service
                snapshot = self.homes.snapshot_of(revision)
                for dev in (False, True) if _has_python(service, dev=False) else ():
                    found = self._environments.locate(
                        Path(service.folder), app_folder,
                        dev=dev, snapshot=snapshot, python=service.python, service=service.name,
                    )  # fmt: skip
                    environments |= {found.folder} if found.folder is not None else set()
        except ShoalError:
            pass  # what it needs is not known, so no environment goes
        else:
            self._environments.collect(environments)
        self.homes.collect({revision.source for revision in revisions if revision.source}, folders)
        old_logs.collect(self._state.logs, logs)

    def log_of(self, service: str, replica: str) -> Path:
        return self._state.logs / service / f"{replica}.log"

    def release(
        self, replica: str, service: str | None, hosts_in_use: Collection[str], files_in_use: Collection[str]
    ) -> None:
        """Gives back what a replica had that will not come again."""
        self._variables.pop(replica, None)
        self.confidential.release(replica)
        self.ports.release(replica)
        self.ports.release_further(replica)
        self.addresses.release(replica)
        try:
            self._state.replica_socket(replica).unlink(missing_ok=True)
            if service is not None:
                self._hosts.drop_unused(service, hosts_in_use)
                self._given.drop_unused(files_in_use)
        except OSError:
            pass  # left over, in a folder of our own

    async def lose_names(self, reason: str) -> None:
        """The machine let us have private hosts files when we tried, and refuses them now."""
        if self.named:
            self.named, self.names_reason = False, reason
            await self.warn("app", "services find each other by variables only from now on", reason)

    async def share(self, app: App, edges: EdgeMap) -> None:
        """Sees to it that the app's names are in the hosts file that all read, where it is done so."""
        if self.shared is not None:
            await self._share(partial(self.shared.write, app, edges))

    async def share_again(self) -> None:
        """While there was no keeper, another app may have taken them for a dead one's."""
        if self.shared is not None:
            await self._share(self.shared.write_again)

    async def _share(self, write: Callable[[], Mapping[str, str]]) -> None:
        try:
            left_out = await asyncio.to_thread(write)
        except EngineError as error:
            await self.warn("app", error.message, names.BY_VARIABLES)
            return
        for name, whose in sorted(left_out.items()):
            message = f"the name {name!r} is taken in /etc/hosts by {whose}, and leads there"
            await self.warn(name, message, f"call it by {variable_prefix(name)}_URL, or give it another name")

    async def unshare(self) -> None:
        """Nothing of the app runs any more."""
        if self.shared is not None:
            try:
                await asyncio.to_thread(self.shared.remove)
            except EngineError as error:
                await self.warn("app", f"its names are left: {error.message}", "the next app that starts removes them")

    async def warn(self, subject: str, message: str, way_out: str) -> None:
        """Once for each subject and message."""
        if (subject, message) not in self._warned:
            self._warned.add((subject, message))
            await self._inbox.put(Warned(at=self._clock.now(), subject=subject, message=message, way_out=way_out))

    async def _for_workload(
        self, service: Service, environment: Environment, progress: Progress
    ) -> tuple[Environment | None, Path | None]:
        """What of the environment matters to this workload; its overlay."""
        if isinstance(service.workload, PythonApp):
            if environment.warning:
                await self.warn(service.name, environment.warning, environment.way_out)
            return environment, await self._overlays.prepare(environment, progress)
        # A command may be in any language: Shoal's own Python is nothing to it.
        return (environment if environment.folder is not None else None), None

    def _address(self, replica: str, app: App, service: Service, own: str | None) -> Address | None:
        """`own`: where a replica with a network of its own is in it."""
        if isinstance(service.workload, PythonApp | Static):
            path = self._state.replica_socket(replica)
            try:
                # Not for the sake of the next server, which could replace it, but for the probe: nobody must be taken
                # to listen there yet.
                path.unlink(missing_ok=True)
            except OSError as error:
                raise EngineError(f"{path} cannot be removed: {error.strerror}") from error
            return UnixAddress(path=str(path))
        if service.port is None:
            return None
        if own is not None:
            return TcpAddress(host=LOOPBACK if service.loopback else own, port=service.listen or service.port)
        return TcpAddress(host=LOOPBACK, port=self.ports.lease(replica, avoid=_claimed(app)))

    def _further(
        self, replica: str, app: App, service: Service, own: str | None
    ) -> tuple[tuple[str, Protocol, TcpAddress], ...]:
        if own is not None:
            return tuple((port.name, port.protocol, TcpAddress(host=own, port=port.number)) for port in service.ports)
        claimed = _claimed(app)
        leases = [(port, self.ports.lease(further_lease(replica, port.name), avoid=claimed)) for port in service.ports]
        return tuple((port.name, port.protocol, TcpAddress(host=LOOPBACK, port=leased)) for port, leased in leases)

    def _is_named(self, service: Service) -> bool:
        return self.named and service.names is Names.AUTO

    def _namespace(self, app: App, edges: EdgeMap, service: Service, place: Place) -> dict[str, Any] | None:
        self._check_names(service)
        if not self._is_named(service):
            return None
        nsswitch = self._hosts.write_nsswitch()
        return {
            "hosts": str(self._hosts.write(app, edges, service.name)),
            "nsswitch": str(nsswitch) if nsswitch is not None else None,
            "files": self._given.prepare(
                app, service, lambda text: surroundings.filled_text(text, app, service, edges, place)
            ),
        }

    def _check_names(self, service: Service) -> None:
        if (service.files or service.volumes) and not self._is_named(service):
            what = " and ".join(key for key in ("files", "volumes") if getattr(service, key))
            raise EngineError(
                f"service {service.name!r} cannot have {what!r} here: that takes a file system of its own, and "
                f"{self.names_reason or 'names: env turns it off'}",
                way_out="let it read its files where they are, and write below $SHOAL_DATA_DIR",
            )

    def _data_folder(self, service: Service) -> Path:
        folder = self._state.data / service.name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"{folder} cannot be made: {error.strerror}") from error
        return folder


def _has_python(service: Service, *, dev: bool) -> bool:
    """Whether it, or what builds it, may use Python: a site that nothing builds does not."""
    if isinstance(service.workload, Resource):
        return False
    return not isinstance(service.workload, Static) or (bool(service.build) and not dev)


def _at_home(service: Service, home: Home) -> Service:
    """As its replicas find it."""
    if isinstance(service.workload, Static):
        folder = str(sites.folder_of(service, home.folder))
        service = replace(service, workload=replace(service.workload, folder=folder))
    return replace(service, folder=str(home.folder))


def _sources(namespace: dict[str, Any] | None) -> tuple[str, ...]:
    """What is bound at absolute paths."""
    files = namespace["files"] if namespace else None
    return tuple(source for source, _, _ in files["mounts"]) if files else ()


def further_lease(replica: str, port: str) -> str:
    """Under which name a replica's further port is leased."""
    return f"{replica}:{port}"


def _claimed(app: App) -> set[int]:
    claimed = {port.number for peer in app.services for port in peer.every_port}
    return claimed | ({app.gateway.port} if app.gateway is not None else set())


T = TypeVar("T", bound=str | HealthCheck | None)


def _filled(check: T, app: App, service: Service, edges: EdgeMap, place: Place) -> T:
    if not isinstance(check, HealthCheck) or not check.command:
        return check
    command = tuple(surroundings.filled(app, service, check.command, edges, place))
    return cast("T", replace(check, command=command))
