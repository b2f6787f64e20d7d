"""What the Envoy in the mesh network should hold, beside what the first one does (`mesh.sides`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from shoal.mesh.assemble import assemble, assignment_names
from shoal.mesh.canary import Canary, with_canaries
from shoal.mesh.compile import MeshOptions, compile_app
from shoal.mesh.endpoints import Endpoint
from shoal.mesh.relays import LOOPBACK, Relay, with_relays
from shoal.mesh.sides import door_path, has_own_side
from shoal.mesh.snapshot import Message
from shoal.model.app import App, Network
from shoal.model.replica import TcpAddress, UnixAddress
from shoal.model.topology import EdgeMap
from shoal.model.world import Desired, Observed


class OwnSide:
    """Remembers what it built; nothing, and at no cost, for an app whose services are all in the machine's network."""

    def __init__(self, options: MeshOptions) -> None:
        self._options = options
        self._compiled: Mapping[str, Mapping[str, Message]] | None = None
        self._canaries: Mapping[str, Canary] = {}
        self._static: Mapping[str, Mapping[str, Message]] = {}
        self._names: tuple[str, ...] = ()
        self._services: frozenset[str] = frozenset()
        self._relays: tuple[Relay, ...] = ()
        self._paths: dict[str, str] = {}

    def compile(self, app: App, edges: EdgeMap) -> None:
        """For a new generation of the app."""
        self._compiled = compile_app(app, edges, self._options, Network.OWN) if has_own_side(app) else None
        self._services = frozenset(service.name for service in app.services if service.network is Network.OWN)
        self._put_together()

    def compare(self, canaries: Mapping[str, Canary]) -> None:
        """Takes up which canaries are under way."""
        self._canaries = canaries
        self._put_together()

    def relay(self, desired: Desired, observed: Observed) -> bool:
        """Takes up which replicas need a relay now. Whether others do than before."""
        if not self._services and not self._relays:
            return False
        relays = tuple(self._wanted(desired, observed))
        if relays == self._relays:
            return False
        self._relays = relays
        self._paths = {relay.replica: relay.path for relay in relays}
        self._put_together()
        return True

    def reached(self, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """The endpoints with relays in the place of addresses that only relays reach."""
        if not self._paths:
            return endpoints
        return tuple(
            replace(one, address=UnixAddress(path=self._paths[one.replica])) if one.replica in self._paths else one
            for one in endpoints
        )

    def resources(self, assignments: Mapping[str, Message]) -> Mapping[str, Mapping[str, Message]] | None:
        """None: there is no second Envoy."""
        if self._compiled is None:
            return None
        return assemble(self._static, assignments, self._names, version=0, replicas=frozenset()).resources

    def _wanted(self, desired: Desired, observed: Observed) -> Iterator[Relay]:
        """For those that listen on 127.0.0.1 of their own network; from their start on, so that the relay is there
        before anybody is sent to it."""
        for replica in sorted(observed.replicas.values(), key=lambda one: one.id):
            if replica.service not in self._services or replica.service not in desired.targets:
                continue
            address = replica.address
            if not isinstance(address, TcpAddress) or address.host != LOOPBACK:
                continue
            if replica.pid is not None and replica.runs:
                path = door_path(self._options.doors, Network.OWN, f"{replica.id}:{replica.pid}")
                yield Relay(replica=replica.id, path=path, pid=replica.pid, port=address.port)

    def _put_together(self) -> None:
        if self._compiled is not None:
            compiled = with_canaries(self._compiled, self._canaries)
            self._static = with_relays(compiled, self._relays) if self._relays else compiled
            self._names = assignment_names(self._static)
