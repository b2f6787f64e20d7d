"""The two messages of the delta protocol: requests as plain values, responses as bytes.

A response is put together from fields that were encoded once: 1,000 resources are not copied into Python messages again
for every stream. Field numbers are those of envoy/service/discovery/v3/discovery.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shoal.mesh.snapshot import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the client says: what it wants, what it has, and how the last response went."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    """name -> version that it holds from an earlier stream; only in a stream's first request of a type."""
    nonce: str = ""
    """Of the response that this acknowledges, or refuses."""
    error: str | None = None
    """Why it refuses; None: it accepts."""


def request(message: Message) -> Request:
    """From a DeltaDiscoveryRequest."""
    return Request(
        type_url=message.type_url,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        initial_versions=dict(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=message.error_detail.message if message.HasField("error_detail") else None,
    )


def resource_frame(type_url: str, name: str, version: str, body: bytes) -> bytes:
    """One `resources` entry of a DeltaDiscoveryResponse."""
    boxed = _field(1, type_url.encode()) + _field(2, body)  # google.protobuf.Any
    return _field(2, _field(1, version.encode()) + _field(2, boxed) + _field(3, name.encode()))


def response(type_url: str, nonce: str, frames: Iterable[bytes], removed: Iterable[str]) -> bytes:
    """A DeltaDiscoveryResponse."""
    gone = b"".join(_field(6, name.encode()) for name in removed)
    return b"".join(frames) + _field(4, type_url.encode()) + _field(5, nonce.encode()) + gone


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
