"""Enters a mount namespace in which `/etc/hosts` is a private file, and others where they are wanted; and a network of
its own, where one is wanted.

Unprivileged it takes a user namespace, in which we are root and may mount, and in it a second one that maps us back to
the user we were: programs that look at their uid notice nothing. Root needs the mount namespace alone.
"""

from __future__ import annotations

import os

from . import linux, mounts, networks
from .mounts import Mounts
from .networks import Network

HOSTS = "/etc/hosts"
NSSWITCH = "/etc/nsswitch.conf"
RESOLV = "/etc/resolv.conf"
_NSCD = ("/run/nscd", "/var/run/nscd")


class NamespaceError(Exception):
    """Why there is no private hosts file, in words."""

    code = "namespace-failed"


class NetworkError(NamespaceError):
    """Why there is no network of its own, in words."""

    code = "network-failed"


class FilesError(NamespaceError):
    """What could not be put at its path, in words."""

    code = "files-failed"


def enter(hosts: str | None, nsswitch: str | None, network: Network | None = None, files: Mounts | None = None) -> None:
    """Moves this (single-threaded) process into its own namespaces, with the two files bound over the machine's, the
    network and, where there are `hosts`, the files. `hosts` None: the machine's own files stay.

    NamespaceError: the process may be half way in; it should end.
    """
    target = None if hosts is None else _hosts_target()
    uid, gid = os.geteuid(), os.getegid()
    unprivileged = uid != 0
    if unprivileged and network is not None and network.kind != networks.CREATE:
        # Everything of the mesh has one owner: the user namespace of the mesh network.
        _setns(network.user, linux.CLONE_NEWUSER, "the mesh's user namespace")
    elif unprivileged:
        _unshare(linux.CLONE_NEWUSER)
        # Groups may not be changed inside, or the kernel refuses the map.
        _write("/proc/self/setgroups", "deny")
        _map(inside=(0, 0), outside=(uid, gid))
    if network is not None:
        _enter_network(network)
    resolv = network.resolv if network is not None else None
    if target is not None or resolv is not None:
        _unshare(linux.CLONE_NEWNS)
        # Slave, not private: what the machine mounts later must still appear inside.
        _mount("none", "/", None, linux.MS_REC | linux.MS_SLAVE)
        if hosts is not None and target is not None:
            _bind(hosts, target, nsswitch)
        if resolv is not None and os.path.isfile(RESOLV):
            _mount(resolv, os.path.realpath(RESOLV), None, linux.MS_BIND)
        if hosts is not None and files is not None:
            _put(files)
    if unprivileged and (network is None or network.kind in (networks.OWN, networks.ENTER)):
        _unshare(linux.CLONE_NEWUSER)
        _map(inside=(uid, gid), outside=(0, 0))


def _hosts_target() -> str:
    target = os.path.realpath(HOSTS)
    if not os.path.isfile(target):
        way = HOSTS if target == HOSTS else f"{HOSTS}, a link to {target},"
        raise NamespaceError(f"{way} does not exist, so that no private one can take its place")
    return target


def _bind(hosts: str, target: str, nsswitch: str | None) -> None:
    _mount(hosts, target, None, linux.MS_BIND)
    if nsswitch is not None and os.path.isfile(NSSWITCH):
        _mount(nsswitch, os.path.realpath(NSSWITCH), None, linux.MS_BIND)
    for folder in {os.path.realpath(path) for path in _NSCD if os.path.isdir(path)}:
        # Empty: glibc asks nscd's cache before any file.
        _mount("none", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, "size=4k,mode=755")


def _put(files: Mounts) -> None:
    try:
        mounts.put(files)
    except mounts.MountError as error:
        raise FilesError(str(error)) from error


def _enter_network(network: Network) -> None:
    try:
        if network.kind == networks.CREATE:
            linux.unshare(linux.CLONE_NEWNET)
            networks.set_up_mesh()
        elif network.kind in (networks.JOIN, networks.ENTER):
            linux.setns(network.net, linux.CLONE_NEWNET)
        else:
            networks.set_up_own(network)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        raise NetworkError(f"a network of its own was refused ({what}{error.strerror})") from error


def _setns(fd: int, kind: int, what: str) -> None:
    try:
        linux.setns(fd, kind)
    except OSError as error:
        raise NetworkError(f"{what} was refused ({error.strerror})") from error


def _unshare(flags: int) -> None:
    try:
        linux.unshare(flags)
    except OSError as error:
        raise NamespaceError(f"a new namespace was refused ({error.strerror})") from error


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    try:
        linux.mount(source, target, kind, flags, data)
    except OSError as error:
        what = f"mounting {source} over {target}" if source != "none" else f"mounting on {target}"
        raise NamespaceError(f"{what} was refused ({error.strerror})") from error


def _map(inside: tuple[int, int], outside: tuple[int, int]) -> None:
    """One user and one group, (uid, gid)."""
    _write("/proc/self/uid_map", f"{inside[0]} {outside[0]} 1")
    _write("/proc/self/gid_map", f"{inside[1]} {outside[1]} 1")


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise NamespaceError(f"writing {path} was refused ({error.strerror})") from error
