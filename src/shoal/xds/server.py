"""The delta ADS server on a Unix socket, and the access log of denied calls beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

# gRPC's fork handlers stall the engines' child processes; it reads this at import.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
import grpc.aio
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.discovery.v3 import discovery_pb2

from shoal.mesh.snapshot import LISTENER, Snapshot
from shoal.model.event import ResourceRejected, SnapshotApplied
from shoal.ports import Clock, Inbox
from shoal.xds import wire
from shoal.xds.denials import Denials
from shoal.xds.library import Library
from shoal.xds.outbox import Outbox
from shoal.xds.session import Rejection, Response, Session

log = logging.getLogger(__name__)

NODE, OWN_NODE = "shoal", "shoal-own"
"""The ids of the two Envoys: on the machine's network, and in the mesh network."""
STOP_S_MAX = 2.0
_ADS = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_ALS = "envoy.service.accesslog.v3.AccessLogService"
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.http2.max_ping_strikes", 0),  # Envoy's keep-alive pings an idle stream
)


class XdsServer:
    """Sends snapshots to every Envoy that connects (`SnapshotSink`).

    Its owner runs `run` in a task. The socket is opened only after the first `publish`: an empty snapshot would remove
    every listener of an Envoy that has been serving all along.
    """

    def __init__(self, inbox: Inbox, clock: Clock, socket: Path) -> None:
        self._clock = clock
        self._socket = socket
        self._outbox = Outbox(inbox)
        self._library = Library()
        self._own_library = Library()
        """Of the Envoy in the mesh network."""
        self._streams: set[_Stream] = set()
        self._denials = Denials()
        self._published = asyncio.Event()
        self._server: Any = None
        self._told: dict[tuple[str, str], tuple[str, str]] = {}
        """(type, name) -> version and words of the last refusal that was reported."""
        self.sent_resources = 0
        """Since the start, to all streams."""

    def publish(self, snapshot: Snapshot) -> None:
        """Replaces the whole snapshot; only what differs is sent. Never blocks."""
        changed = {self._library: self._library.publish(snapshot)}
        if snapshot.own is not None or self._own_library.snapshot is not None:
            own = replace(snapshot, resources=snapshot.own or {}, changed=None)
            changed[self._own_library] = self._own_library.publish(own)
        for stream in self._streams:
            stream.session.changed(changed.get(stream.library, {}))
            stream.wake.set()
        self._published.set()

    async def run(self) -> None:
        """Serves from the first snapshot on, until cancelled. OSError: the socket cannot be opened."""
        await self._published.wait()
        server = self._server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((self._ads_handler(), self._als_handler()))
        try:
            try:
                server.add_insecure_port(f"unix:{self._socket}")
            except RuntimeError as error:
                raise OSError(f"cannot open {self._socket}: {error}") from error
            await server.start()
            self._socket.chmod(0o600)
            await self._outbox.deliver()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Closes every stream and the socket. Envoy goes on with what it has."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace=None)
            self._socket.unlink(missing_ok=True)

    def _ads_handler(self) -> Any:
        delta = grpc.stream_stream_rpc_method_handler(
            self._talk, request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString
        )
        return grpc.method_handlers_generic_handler(_ADS, {"DeltaAggregatedResources": delta})

    def _als_handler(self) -> Any:
        entries = grpc.stream_unary_rpc_method_handler(
            self._listen,
            request_deserializer=als_pb2.StreamAccessLogsMessage.FromString,
            response_serializer=als_pb2.StreamAccessLogsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(_ALS, {"StreamAccessLogs": entries})

    async def _talk(self, requests: AsyncIterator[Any], context: Any) -> None:
        """One Envoy's stream, from connect to disconnect."""
        requests = aiter(requests)
        first = await anext(requests, None)
        if first is None:
            return
        # Only a stream's first request says whose it is.
        stream = _Stream(self._own_library if first.node.id == OWN_NODE else self._library)
        stream.session.receive(wire.request(first), self._clock.now())
        self._streams.add(stream)
        reader = asyncio.create_task(self._read(stream, requests), name="xds-reader")
        try:
            while not reader.done():
                while (response := stream.session.next_response(self._clock.now())) is not None:
                    self.sent_resources += len(response.resources)
                    await context.write(_encoded(response))
                self._report(stream)
                await self._pause(stream)
        finally:
            self._streams.discard(stream)
            for other in self._streams:  # what waited for this one to confirm waits no longer
                other.told = None
                other.wake.set()
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    async def _read(self, stream: _Stream, requests: AsyncIterator[Any]) -> None:
        try:
            async for message in requests:
                stream.session.receive(wire.request(message), self._clock.now())
                stream.wake.set()
        finally:
            stream.wake.set()

    async def _pause(self, stream: _Stream) -> None:
        """Until there may be something to send."""
        deadline = stream.session.deadline()
        wait_s = None if deadline is None else max(0.0, deadline - self._clock.now())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await stream.wake.wait()
        stream.wake.clear()

    def _report(self, stream: _Stream) -> None:
        """Tells the control loop what this stream brought to light."""
        for words in stream.session.take_overdue():
            log.warning("%s", words)
        for rejection in stream.session.take_rejections():
            self._reject(rejection)
        snapshot = self._library.snapshot
        if snapshot is None or not stream.session.in_sync:
            stream.confirmed = None
            return
        confirmed = stream.confirmed = (snapshot.version, stream.session.refusals)
        if stream.told == confirmed:
            return
        stream.told = confirmed
        if snapshot.own is not None and len({other.library for other in self._streams}) < 2:
            stream.told = None  # the other Envoy is on its way, and may still send to whoever is to be stopped
            return
        everywhere = [other.confirmed for other in self._streams]
        if all(one is not None and one[0] == snapshot.version for one in everywhere):
            refusals = {refusal for one in everywhere if one is not None for refusal in one[1]}
            event = SnapshotApplied(
                at=self._clock.now(),
                version=snapshot.version,
                replicas=snapshot.replicas,
                rejected=tuple(sorted(refusals)),
            )
            self._outbox.post("applied", event)

    def _reject(self, rejection: Rejection) -> None:
        """Once for the same words: a refused resource is offered again and again."""
        kind = rejection.type_url.rpartition(".")[2]
        log.warning("Envoy refuses %s %s: %s", kind, rejection.name, rejection.message)
        key = (rejection.type_url, rejection.name)
        words = (rejection.version, rejection.message)
        if self._told.get(key) == words:
            return
        self._told[key] = words
        self._outbox.post(
            key,
            ResourceRejected(
                at=self._clock.now(), resource=rejection.name, kind=kind, message=rejection.message.strip()
            ),
        )

    async def _listen(self, requests: AsyncIterator[Any], context: Any) -> Any:
        """The access log of denied calls."""
        del context
        name = ""
        async for message in requests:
            name = message.identifier.log_name or name  # only a stream's first message has it
            now, snapshot = self._clock.now(), self._library.snapshot
            denied = self._denials.fold(name, message.http_logs.log_entry, now)
            if snapshot is not None:
                listeners = {**snapshot.resources[LISTENER], **(snapshot.own or {}).get(LISTENER, {})}
                denied += self._denials.fold_tcp(name, message.tcp_logs.log_entry, listeners, now)
            for event in denied:
                self._outbox.post((event.caller, event.callee), event)
        return als_pb2.StreamAccessLogsResponse()


class _Stream:
    def __init__(self, library: Library) -> None:
        self.library = library
        self.session = Session(library)
        self.wake = asyncio.Event()
        self.confirmed: tuple[int, tuple[tuple[str, str], ...]] | None = None
        """Version of the snapshot that this Envoy confirmed, and what it refuses of it. None: not in sync."""
        self.told: tuple[int, tuple[tuple[str, str], ...]] | None = None
        """What the control loop knows of that."""


def _encoded(response: Response) -> bytes:
    frames = (resource.frame for resource in response.resources)
    return wire.response(response.type_url, response.nonce, frames, response.removed)
