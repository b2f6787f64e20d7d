"""Small pieces that every Envoy resource needs. Constructors only: `json_format.ParseDict` is 22 times slower.

Some are made once and shared: putting a message into another copies it.
"""

from __future__ import annotations

from functools import cache

from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration

from shoal.mesh.defaults import FETCH_TIMEOUT_S
from shoal.mesh.snapshot import Message


def packed(message: Message) -> AnyMessage:
    """In an Any; map fields in the order of their keys, so that equal messages give equal bytes."""
    box = AnyMessage()
    box.Pack(message, deterministic=True)
    return box


@cache
def duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=round((seconds - whole) * 1e9))


def socket_address(host: str, port: int) -> Message:
    """`host` is an IP address; Envoy resolves nothing here."""
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=host, port_value=port))


def pipe_address(path: str, mode: int = 0) -> Message:
    """`mode`: of the socket that Envoy makes there."""
    return address_pb2.Address(pipe=address_pb2.Pipe(path=path, mode=mode))


@cache
def by_ads() -> Message:
    """Fetched on the one stream."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        resource_api_version=config_source_pb2.ApiVersion.V3,
        initial_fetch_timeout=duration(FETCH_TIMEOUT_S),
    )


def set_header(name: str, value: str) -> Message:
    """Replaces what is there. `value` may hold Envoy's `%COMMANDS%`."""
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=name, value=value),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )


@cache
def add_header(name: str, value: str) -> Message:
    """Unless it is there."""
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=name, value=value),
        append_action=base_pb2.HeaderValueOption.ADD_IF_ABSENT,
    )


def exactly(text: str) -> Message:
    return string_pb2.StringMatcher(exact=text)


def starting_with(text: str) -> Message:
    return string_pb2.StringMatcher(prefix=text, ignore_case=True)


def containing(text: str) -> Message:
    return string_pb2.StringMatcher(contains=text, ignore_case=True)


def all_but(prefix: str, word: str) -> Message:
    """What begins with `prefix`, but for `prefix` and `word`, both of letters and `-`. RE2 cannot look ahead."""
    others = [f"{word[:at]}([^{letter}].*)?" for at, letter in enumerate(word)]
    return matching(f"{prefix}({'|'.join([*others, f'{word}.+'])})")


def matching(regex: str) -> Message:
    """The whole text must match."""
    return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=regex))
