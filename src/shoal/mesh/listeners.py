"""Where Envoy listens. A listener never changes while its address stays: everything that does is in its routes, because
a changed listener drains its connections."""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from functools import cache

from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from envoy.config.core.v3 import address_pb2, extension_pb2, protocol_pb2, socket_option_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.http.original_ip_detection.xff.v3 import xff_pb2
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from shoal.mesh import defaults
from shoal.mesh.filters import empty_filters
from shoal.mesh.messages import (
    all_but,
    by_ads,
    duration,
    exactly,
    packed,
    pipe_address,
    set_header,
    socket_address,
    starting_with,
)
from shoal.mesh.meter import attempts_logs, timeouts_log
from shoal.mesh.problems import local_replies
from shoal.mesh.snapshot import Message

CALLER_HEADER = "x-shoal-caller"
"""Set on every edge, believed from nobody, and taken off before a replica is reached."""
_SOL_SOCKET, _SO_LINGER = (0xFFFF, 0x80) if sys.platform == "darwin" else (1, 13)
_LINGER_0 = struct.pack("ii", 1, 0)
_Manager = http_connection_manager_pb2.HttpConnectionManager


def outer(name: str, host: str, port: int, *, routes: str, trusted: Sequence[str] = ()) -> Message:
    """A door for people and programs outside the app: nothing that a client claims about itself is believed. `trusted`:
    the networks of proxies, which are believed about whom they pass on."""
    manager = _manager(name, routes, _FROM_OUTSIDE)
    manager.normalize_path.value = True
    listener = _listener(name, socket_address(host, port), manager)
    if trusted:
        # Two chains, so that a connection decides: one manager would leave what it does not believe in the headers.
        believing = listener_components_pb2.FilterChain(
            filter_chain_match=listener_components_pb2.FilterChainMatch(source_prefix_ranges=map(_network, trusted)),
            filters=[
                listener_components_pb2.Filter(name="http", typed_config=packed(_believing(name, routes, trusted)))
            ],
        )
        listener.filter_chains.insert(0, believing)
    return listener


def _believing(name: str, routes: str, trusted: Sequence[str]) -> Message:
    """For what a proxy passes on: the client's address is the last one in `x-forwarded-for` that is no proxy's."""
    manager = _manager(name, routes, _FROM_A_PROXY)
    manager.normalize_path.value = True
    manager.use_remote_address.value = False  # Envoy takes the one or the other
    client = xff_pb2.XffConfig(
        xff_trusted_cidrs=xff_pb2.XffTrustedCidrs(cidrs=map(_network, trusted)),
        skip_xff_append=BoolValue(value=True),  # else a service would see the proxy last, where the client belongs
    )
    manager.original_ip_detection_extensions.append(
        extension_pb2.TypedExtensionConfig(name="envoy.http.original_ip_detection.xff", typed_config=packed(client))
    )
    return manager


def _network(text: str) -> Message:
    address, _, length = text.partition("/")
    return address_pb2.CidrRange(address_prefix=address, prefix_len=UInt32Value(value=int(length)))


def socket_door(name: str, path: str, *, routes: str) -> Message:
    """The same on a Unix socket that only its user opens."""
    return _listener(name, pipe_address(path, mode=0o600), _manager(name, routes, _FROM_OUTSIDE))


def inner_door(name: str, path: str, *, routes: str) -> Message:
    """Where the app's other Envoy comes in, which has seen to what clients claim."""
    manager = _manager(name, routes, ())
    manager.ClearField("early_header_mutation_extensions")
    manager.use_remote_address.value = False  # the addresses of who called are there already
    return _listener(name, pipe_address(path, mode=0o600), manager)


def inner_door_for_bytes(name: str, path: str, *, cluster: str, connects: int = defaults.CONNECTS_TCP) -> Message:
    """The same for a port that speaks TCP."""
    return _bytes_to(name, pipe_address(path, mode=0o600), cluster, connects)


def forward_door(name: str, path: str, *, routes: str, resolving: Message, replies: Message) -> Message:
    """Where requests come in that are for places outside: a proxy, which says nothing of itself in them. `resolving`:
    the configuration of the filter that looks up their names."""
    manager = _manager(name, routes, ())
    manager.ClearField("early_header_mutation_extensions")
    manager.use_remote_address.value = False
    manager.generate_request_id.value = False
    manager.upgrade_configs.add(upgrade_type="CONNECT")
    manager.local_reply_config.CopyFrom(replies)
    lookup = http_connection_manager_pb2.HttpFilter(
        name="envoy.filters.http.dynamic_forward_proxy", typed_config=resolving
    )
    manager.http_filters.insert(0, lookup)
    return _listener(name, pipe_address(path, mode=0o600), manager)


def edge(name: str, host: str, port: int, *, caller: str, routes: str) -> Message:
    """The address of one declared call. Whose it is, is a header from here to the last route: so all edges to a service
    share its routes, and a caller's own ones come and go without a change of its listener. Empty: nobody knows."""
    mutations = [*_FROM_A_SERVICE, _from(caller)] if caller else _FROM_A_SERVICE
    return _listener(name, socket_address(host, port), _manager(name, routes, mutations))


def _from(caller: str) -> Message:
    return mutation_rules_pb2.HeaderMutation(append=set_header(CALLER_HEADER, caller))


def deny(name: str, host: str, port: int, *, routes: str, access_log: Message) -> Message:
    """The address of calls that a service has not declared; each is told to the control plane."""
    manager = _manager(name, routes, _FROM_A_SERVICE)
    manager.strip_any_host_port = True  # so that `%REQ(:AUTHORITY)%` is the callee's name
    manager.access_log.append(access_log)
    return _listener(name, socket_address(host, port), manager)


def bytes_to(name: str, host: str, port: int, *, cluster: str, connects: int = defaults.CONNECTS_TCP) -> Message:
    """A published port or an edge that speaks TCP: whatever comes goes to a replica as it is. `connects`: attempts."""
    return _bytes_to(name, socket_address(host, port), cluster, connects)


def _bytes_to(name: str, address: Message, cluster: str, connects: int) -> Message:
    proxy = tcp_proxy_pb2.TcpProxy(
        stat_prefix=name,
        cluster=cluster,
        idle_timeout=duration(defaults.STREAM_IDLE_S),
        max_connect_attempts=UInt32Value(value=connects),
    )
    filters = [listener_components_pb2.Filter(name="tcp", typed_config=packed(proxy))]
    return _with_filters(name, address, filters)


def reset(name: str, host: str, port: int, *, access_log: Message) -> Message:
    """The address of TCP calls that a service has not declared: whoever connects is reset at once."""
    listener = _with_filters(name, socket_address(host, port), [])
    listener.access_log.append(access_log)
    # Accepted sockets take it over: their end is an RST, and nobody takes it for an empty answer.
    listener.socket_options.append(
        socket_option_pb2.SocketOption(
            description="SO_LINGER 0",
            level=_SOL_SOCKET,
            name=_SO_LINGER,
            buf_value=_LINGER_0,
            state=socket_option_pb2.SocketOption.STATE_LISTENING,
        )
    )
    return listener


def _listener(name: str, address: Message, manager: Message) -> Message:
    filters = [listener_components_pb2.Filter(name="http", typed_config=packed(manager))]
    return _with_filters(name, address, filters)


def _with_filters(name: str, address: Message, filters: Sequence[Message]) -> Message:
    return listener_pb2.Listener(
        name=name,
        address=address,
        # With it, a second program of the same user could bind the port too and get half of the connections.
        enable_reuse_port=BoolValue(value=False),
        filter_chains=[listener_components_pb2.FilterChain(filters=filters)],
    )


def _manager(name: str, routes: str, mutations: Sequence[Message]) -> Message:
    manager = _Manager()
    manager.CopyFrom(_common())
    manager.stat_prefix = name
    manager.rds.CopyFrom(http_connection_manager_pb2.Rds(route_config_name=routes, config_source=by_ads()))
    manager.early_header_mutation_extensions.append(
        extension_pb2.TypedExtensionConfig(
            name="envoy.http.early_header_mutation.header_mutation",
            typed_config=packed(header_mutation_pb2.HeaderMutation(mutations=mutations)),
        )
    )
    return manager


@cache
def _common() -> Message:
    return _Manager(
        codec_type=_Manager.AUTO,  # HTTP/1.1, and HTTP/2 for those that begin with it
        http_filters=[
            *empty_filters(),
            http_connection_manager_pb2.HttpFilter(
                name="envoy.filters.http.router",
                typed_config=packed(router_pb2.Router(suppress_envoy_headers=True, upstream_log=attempts_logs())),
            ),
        ],
        # nginx as a client speaks HTTP/1.0, and else gets 426.
        http_protocol_options=protocol_pb2.Http1ProtocolOptions(
            accept_http_10=True, default_host_for_http_10="localhost"
        ),
        http2_protocol_options=protocol_pb2.Http2ProtocolOptions(allow_connect=True),  # WebSockets over HTTP/2
        upgrade_configs=[_Manager.UpgradeConfig(upgrade_type="websocket")],
        use_remote_address=BoolValue(value=True),
        # Nobody is internal: a client's own `x-envoy-*` (retries, time-outs) are taken off. An empty list would mean
        # Envoy's default, which is every private address.
        internal_address_config=_Manager.InternalAddressConfig(
            cidr_ranges=[address_pb2.CidrRange(address_prefix="255.255.255.255", prefix_len=UInt32Value(value=32))]
        ),
        preserve_external_request_id=True,
        server_header_transformation=_Manager.PASS_THROUGH,
        local_reply_config=local_replies(),
        access_log=[timeouts_log()],
    )


def _removed(*, names: Sequence[str] = (), prefixes: Sequence[str] = ()) -> list[Message]:
    mutation = mutation_rules_pb2.HeaderMutation
    matchers = [*map(exactly, names), *map(starting_with, prefixes)]
    return [mutation(remove_on_match=mutation.RemoveOnMatch(key_matcher=matcher)) for matcher in matchers]


_FROM_OUTSIDE = _removed(names=("forwarded", "x-real-ip"), prefixes=("x-shoal-", "x-forwarded-"))
_FROM_A_PROXY = _removed(prefixes=("x-shoal-", "x-envoy-"))
"""Without `use_remote_address` Envoy does not take off its own by itself."""
_FROM_A_SERVICE = [
    mutation_rules_pb2.HeaderMutation(
        remove_on_match=mutation_rules_pb2.HeaderMutation.RemoveOnMatch(key_matcher=all_but("x-shoal-", "deadline"))
    )
]
"""A service may pass on whom it works for, and how long that one waits; what Shoal says is Shoal's alone."""
