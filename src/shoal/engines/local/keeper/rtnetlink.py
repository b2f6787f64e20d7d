"""Links, addresses and routes of the network namespace that we are in, by the kernel's own protocol (rtnetlink(7)).

Not by `ip`: a machine need not have it, and a replica's network would take six processes.
"""

from __future__ import annotations

import os
import socket
import struct

_DONE_OR_ERROR = 2
_NEWLINK, _DELLINK, _NEWADDR, _NEWROUTE = 16, 17, 20, 24
_REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400
_IFF_UP = 1
# Attributes of links, of veth pairs and of bridge ports
_ADDRESS, _IFNAME, _MASTER, _LINKINFO, _NET_NS_FD = 1, 3, 10, 18, 28
_KIND, _DATA, _SLAVE_KIND, _SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER, _PORT_ISOLATED = 1, 33
# Of addresses and of routes
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _TABLE_LOCAL = 254, 255
_BY_US = 4  # RTPROT_STATIC
_EVERYWHERE, _ON_LINK, _HERE = 0, 253, 254
_UNICAST, _LOCAL, _UNREACHABLE = 1, 2, 7


class Links:
    """A socket of the namespace it was made in; it stays one of that, wherever its process goes afterwards.

    Every method raises OSError with what was asked for.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def index(self, name: str) -> int:
        """Only while we are in the namespace."""
        return socket.if_nametoindex(name)

    def add_bridge(self, name: str, mac: bytes) -> None:
        """`mac`: otherwise it changes as ports come and go, and who remembers the old one loses packets for seconds."""
        body = _link() + _named(name) + _attribute(_ADDRESS, mac)
        self._ask(f"the bridge {name}", _NEWLINK, _new(), body + _attribute(_LINKINFO, _attribute(_KIND, b"bridge")))

    def add_pair(self, name: str, *, peer: str, peer_namespace: int, peer_mac: bytes) -> None:
        """Two ends of one cable: `name` here, `peer` in the namespace of that descriptor."""
        far = _link() + _named(peer) + _attribute(_ADDRESS, peer_mac)
        far += _attribute(_NET_NS_FD, struct.pack("=I", peer_namespace))
        info = _attribute(_KIND, b"veth") + _attribute(_DATA, _attribute(_VETH_PEER, far))
        self._ask(f"the pair {name}, {peer}", _NEWLINK, _new(), _link() + _named(name) + _attribute(_LINKINFO, info))

    def attach(self, index: int, bridge: int) -> None:
        """Makes a link a port of the bridge, which passes on to the bridge alone and to no other such port; and up."""
        self._ask("a port of the bridge", _NEWLINK, 0, _link(index) + _attribute(_MASTER, struct.pack("=I", bridge)))
        info = _attribute(_SLAVE_KIND, b"bridge") + _attribute(_SLAVE_DATA, _attribute(_PORT_ISOLATED, b"\1"))
        # Before it is up: never open to the others, not for a moment.
        self._ask("a port apart from the others", _NEWLINK, 0, _link(index) + _attribute(_LINKINFO, info))
        self.up(index)

    def up(self, index: int) -> None:
        self._ask("a link that is up", _NEWLINK, 0, _link(index, flags=_IFF_UP, change=_IFF_UP))

    def remove(self, name: str) -> None:
        self._ask(f"the end of {name}", _DELLINK, 0, _link() + _named(name))

    def add_address(self, index: int, address: str, bits: int) -> None:
        packed = socket.inet_aton(address)
        body = struct.pack("=BBBBI", socket.AF_INET, bits, 0, 0, index)
        body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
        self._ask(f"the address {address}/{bits}", _NEWADDR, _new(), body)

    def route_here(self, index: int, network: str, bits: int) -> None:
        """Every address of the network is one of this namespace."""
        self._route(network, bits, _TABLE_LOCAL, _HERE, _LOCAL, _attribute(_RTA_OIF, struct.pack("=I", index)))

    def route_on_link(self, index: int, network: str, bits: int) -> None:
        self._route(network, bits, _TABLE_MAIN, _ON_LINK, _UNICAST, _attribute(_RTA_OIF, struct.pack("=I", index)))

    def route_by(self, gateway: str, network: str, bits: int) -> None:
        way = _attribute(_RTA_GATEWAY, socket.inet_aton(gateway))
        self._route(network, bits, _TABLE_MAIN, _EVERYWHERE, _UNICAST, way)

    def route_nowhere(self, network: str, bits: int) -> None:
        """Who tries is told at once that there is no way."""
        self._route(network, bits, _TABLE_MAIN, _EVERYWHERE, _UNREACHABLE, b"")

    def _route(self, network: str, bits: int, table: int, scope: int, kind: int, way: bytes) -> None:
        body = struct.pack("=BBBBBBBBI", socket.AF_INET, bits, 0, 0, table, _BY_US, scope, kind, 0)
        body += _attribute(_RTA_DST, socket.inet_aton(network)) + way
        self._ask(f"the route to {network}/{bits}", _NEWROUTE, _new(), body)

    def _ask(self, what: str, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        head = struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST | _ACK, self._sequence, 0)
        self._socket.send(head + body)
        answer = self._socket.recv(65536)
        _, answered, _, sequence, _, error = struct.unpack_from("=IHHIIi", answer)
        if answered != _DONE_OR_ERROR or sequence != self._sequence:
            raise OSError(0, "the kernel answered something else", what)
        if error:
            raise OSError(-error, os.strerror(-error), what)


def _new() -> int:
    return _CREATE | _EXCL


def _link(index: int = 0, *, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BBHiII", socket.AF_UNSPEC, 0, 0, index, flags, change)


def _named(name: str) -> bytes:
    return _attribute(_IFNAME, name.encode() + b"\0")


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
