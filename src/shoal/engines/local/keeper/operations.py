"""What clients may ask: one method an operation, each checks what it was given."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from . import PROTOCOL, VERSION, networks
from .child import Namespace
from .clients import Client
from .lease import LeaseError, NetworkLease
from .mounts import Mount, Mounts
from .networks import Network
from .processes import Processes, RequestError

Request = dict[str, object]
Answer = dict[str, object]


class Operations:
    def __init__(self, processes: Processes, begin_shutdown: Callable[[], None]) -> None:
        self._processes = processes
        self._begin_shutdown = begin_shutdown
        self._shutting_down = False
        self._lease = NetworkLease()
        self._table: dict[str, Callable[[Client, Request], Answer]] = {
            "hello": self._hello,
            "spawn": self._spawn,
            "signal": self._signal,
            "list": self._list,
            "forget": self._forget,
            "attach": self._attach,
            "lease_network": self._lease_network,
            "shutdown": self._shutdown,
        }

    def run(self, client: Client, request: Request) -> Answer:
        """RequestError: refused, with a code and words."""
        operation = self._table.get(str(request.get("op")))
        if operation is None:
            raise RequestError("bad-request", f"no operation {request.get('op')!r}; there are {', '.join(self._table)}")
        return operation(client, request)

    def _hello(self, _client: Client, _request: Request) -> Answer:
        return {"pid": os.getpid(), "version": VERSION, "protocol": PROTOCOL}

    def _spawn(self, _client: Client, request: Request) -> Answer:
        if self._shutting_down:
            raise RequestError("shutting-down", "the keeper was told to end and starts nothing any more")
        argv = _strings(request, "argv")
        env = request.get("env")
        if not isinstance(env, dict) or not all(isinstance(v, str) and "=" not in k for k, v in env.items()):
            raise RequestError("bad-request", "'env' must be an object of strings")
        log = _get(request, "log", str)
        if not os.path.isabs(log):
            raise RequestError("bad-request", "'log' must be an absolute path")
        name, cwd = _get(request, "name", str), _get(request, "cwd", str)
        namespace = self._namespace(request.get("namespace"))
        try:
            pid = self._processes.spawn(
                name, argv, env, cwd, log, request.get("tag"), namespace, request.get("hidden"), request.get("hide")
            )
        finally:
            if namespace is not None and namespace[2] is not None:
                namespace[2].close()
        return {"pid": pid}

    def _namespace(self, wanted: object) -> Namespace | None:
        """A network in it is the caller's to close."""
        if wanted is None:
            return None
        if not isinstance(wanted, dict):
            raise RequestError("bad-request", "'namespace' must be null or an object with 'hosts'")
        hosts, nsswitch = (None if wanted.get(key) is None else _get(wanted, key, str) for key in ("hosts", "nsswitch"))
        network = wanted.get("network")
        if network is None and hosts is None:
            raise RequestError("bad-request", "'namespace' must have 'hosts', 'network' or both")
        files = _mounts(wanted.get("files"))
        if network is None:
            return hosts, nsswitch, None, files
        if not isinstance(network, dict):
            raise RequestError("bad-request", "'network' must be null or an object with 'kind'")
        return hosts, nsswitch, self._network(network), files

    def _network(self, wanted: dict[str, Any]) -> Network:
        kind = _get(wanted, "kind", str)
        if kind == networks.CREATE:
            return Network(kind)
        if kind not in (networks.JOIN, networks.OWN):
            raise RequestError("bad-request", f"no kind {kind!r} of network; there are create, join, own")
        address = _get(wanted, "address", str) if kind == networks.OWN else ""
        if kind == networks.OWN and networks.number_of(address) is None:
            raise RequestError("bad-request", f"{address!r} is no address of a replica, which is 10.77.x.y")
        resolv = None if wanted.get("resolv") is None else _get(wanted, "resolv", str)
        network = self._processes.network(kind, _get(wanted, "mesh", str), address)
        network.resolv = resolv
        return network

    def _signal(self, _client: Client, request: Request) -> Answer:
        group = _get(request, "group", bool) if "group" in request else False
        self._processes.signal(_get(request, "name", str), _get(request, "signal", int), group=group)
        return {}

    def _list(self, _client: Client, _request: Request) -> Answer:
        return {"processes": self._processes.listing()}

    def _forget(self, _client: Client, request: Request) -> Answer:
        self._processes.forget(_get(request, "name", str))
        return {}

    def _attach(self, client: Client, request: Request) -> Answer:
        client.attached = True
        return self._list(client, request)

    def _lease_network(self, _client: Client, request: Request) -> Answer:
        avoid = request.get("avoid", [])
        if not isinstance(avoid, list):
            raise RequestError("bad-request", "'avoid' must be a list of numbers")
        prefer = _get(request, "prefer", int) if "prefer" in request else 77
        try:
            return {"network": self._lease.take(prefer, avoid)}
        except LeaseError as error:
            raise RequestError("no-network", str(error)) from error

    def _shutdown(self, _client: Client, _request: Request) -> Answer:
        self._shutting_down = True
        self._begin_shutdown()
        return {}


def _mounts(wanted: object) -> Mounts | None:
    """`{"place": ..., "mounts": [[source, target, read only], ...]}`."""
    if wanted is None:
        return None
    if not isinstance(wanted, dict):
        raise RequestError("bad-request", "'files' must be null or an object with 'place' and 'mounts'")
    found: list[Mount] = []
    for entry in _get(wanted, "mounts", list):
        if not isinstance(entry, list) or [type(part) for part in entry] != [str, str, bool]:
            raise RequestError("bad-request", "each of 'mounts' must be source, target, and whether it is read-only")
        source, target, read_only = entry
        if not all(os.path.isabs(path) and "\0" not in path for path in (source, target)):
            raise RequestError("bad-request", f"{source!r} and {target!r} must be absolute paths")
        found.append(Mount(source, os.path.normpath(target), read_only=read_only))
    return Mounts(_get(wanted, "place", str), found)


def _get(request: dict[str, Any], key: str, kind: type) -> Any:
    value = request.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RequestError("bad-request", f"{key!r} must be {_KINDS[kind]}, not {value!r}")
    if isinstance(value, str) and "\0" in value:
        raise RequestError("bad-request", f"{key!r} has a zero byte in it")
    return value


_KINDS = {str: "a string", int: "a whole number", bool: "true or false", list: "a list"}


def _strings(request: Request, key: str) -> list[str]:
    value = request.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(part, str) for part in value):
        raise RequestError("bad-request", f"{key!r} must be a list of strings, with at least one")
    return value
