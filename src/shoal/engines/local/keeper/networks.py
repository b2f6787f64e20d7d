"""The mesh network of an app and the networks of its replicas: what each start does once it is in its namespace.

The **mesh network** is a namespace with a bridge; every address of `EDGES` is its own, so that Envoy in it can listen
on an edge's address. A **replica's network** hangs on that bridge by a port that passes on to the bridge and to no
other port. Every replica may listen on any port of any address, and there is no way from one to another but by an edge.
"""

from __future__ import annotations

import errno
import os
import socket

from . import linux
from .rtnetlink import Links

MESH_ADDRESS = "10.77.0.1"
REPLICAS = ("10.77.0.0", 16)
EDGES = ("10.78.0.0", 16)
FIRST, LAST = 2, 65_533
"""Numbers of replicas' addresses in `REPLICAS`."""

CREATE, JOIN, OWN, ENTER = "create", "join", "own", "enter"
_BRIDGE, _END = "mesh", "eth0"
_FORWARDING = "/proc/sys/net/ipv4/ip_forward"
_PORTS = "/proc/sys/net/ipv4/ip_unprivileged_port_start"


class Network:
    """In which network a process starts.

    CREATE: in a new mesh network, as root there. JOIN: in the mesh network, as root there. OWN: in a new network of its
    own with that address. For both, `user` and `net` are descriptors of the mesh network's namespaces. ENTER: in the
    network of a replica, with no more rights than it has; `net` is that network's. `resolv`: the file that is its
    resolv.conf, in OWN and ENTER; None: the machine's.
    """

    __slots__ = ("address", "kind", "net", "resolv", "user")

    def __init__(
        self, kind: str, *, address: str = "", user: int = -1, net: int = -1, resolv: str | None = None
    ) -> None:
        self.kind = kind
        self.resolv = resolv
        self.address = address
        self.user = user
        self.net = net

    def close(self) -> None:
        """Only ours: a child has them closed by its exec."""
        for fd in (self.user, self.net):
            if fd >= 0:
                os.close(fd)
        self.user = self.net = -1


def number_of(address: str) -> int | None:
    """Of a replica's address; None: it is none."""
    try:
        packed = socket.inet_aton(address)
    except OSError:
        return None
    number = int.from_bytes(packed[2:], "big")
    same = packed[:2] == socket.inet_aton(REPLICAS[0])[:2] and socket.inet_ntoa(packed) == address
    return number if same and FIRST <= number <= LAST else None


def address_of(number: int) -> str:
    return f"10.77.{number >> 8}.{number & 0xFF}"


def address_on_edge(number: int) -> str:
    """Of the edge with that number, for a caller that has a network of its own."""
    return f"10.78.{number >> 8}.{number & 0xFF}"


def namespaces_of(pid: int) -> tuple[int, int]:
    """Descriptors of the user and the network namespace of a process. OSError: it ended, or is not ours."""
    user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return user, os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        os.close(user)
        raise


def set_up_mesh() -> None:
    """In a new network namespace, with all rights in it. OSError."""
    # A new namespace copies the machine's: with it the bridge would carry from replica to replica after all.
    _write(_FORWARDING, "0")
    _write(_PORTS, "0")
    links = Links()
    try:
        loopback = links.index("lo")
        links.up(loopback)
        links.add_bridge(_BRIDGE, _mac(1))
        bridge = links.index(_BRIDGE)
        links.add_address(bridge, MESH_ADDRESS, REPLICAS[1])
        links.up(bridge)
        links.route_here(loopback, *EDGES)
    finally:
        links.close()


def set_up_own(network: Network) -> None:
    """In the namespace of the mesh's owner: makes a network for this process alone and ties it to the mesh. OSError."""
    number = number_of(network.address)
    if number is None:
        raise OSError(errno.EINVAL, "no address of a replica", network.address)
    linux.unshare(linux.CLONE_NEWNET)
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(network.net, linux.CLONE_NEWNET)
        _tie(f"v{number}", own, number)
        linux.setns(own, linux.CLONE_NEWNET)
    finally:
        os.close(own)
    _write(_PORTS, "0")
    links = Links()
    try:
        links.up(links.index("lo"))
        end = links.index(_END)
        links.add_address(end, network.address, 32)
        links.up(end)
        links.route_on_link(end, MESH_ADDRESS, 32)
        links.route_by(MESH_ADDRESS, *EDGES)
        # Without it the same by silence: a caller would wait until its own time is over.
        links.route_nowhere(*REPLICAS)
    finally:
        links.close()


def _tie(name: str, own: int, number: int) -> None:
    """In the mesh network: a pair with one end in `own` and the other as a port of the bridge."""
    links = Links()
    try:
        try:
            links.add_pair(name, peer=_END, peer_namespace=own, peer_mac=_mac(number))
        except FileExistsError:
            # The replica's earlier attempt: its namespace goes only when the last of its processes is gone.
            links.remove(name)
            links.add_pair(name, peer=_END, peer_namespace=own, peer_mac=_mac(number))
        links.attach(links.index(name), links.index(_BRIDGE))
    finally:
        links.close()


def _mac(number: int) -> bytes:
    """By the number: who has the address next has the same, and what the mesh remembers of it stays true."""
    return bytes([0x02, 0x53, 0x48, 0, number >> 8, number & 0xFF])


def _write(path: str, text: str) -> None:
    """A setting of the namespace that we are in. OSError, unless it says so already or root does not need it."""
    try:
        with open(path, "r+", encoding="ascii") as file:
            file.write(text)
    except OSError:
        with open(path, encoding="ascii") as file:
            if file.read().strip() == text:
                return
        # A container's root has /proc/sys read-only, and may bind every port all the same.
        if path == _PORTS and os.geteuid() == 0 and not _in_user_namespace():
            return
        raise


def _in_user_namespace() -> bool:
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]
