"""Enters a mount namespace in which `/etc/hosts` is a private file.

Unprivileged it takes a user namespace, in which we are root and may mount, and in it a second one that maps us back to
the user we were: programs that look at their uid notice nothing. Root needs the mount namespace alone.
"""

from __future__ import annotations

import os

from . import linux

HOSTS = "/etc/hosts"
NSSWITCH = "/etc/nsswitch.conf"
_NSCD = ("/run/nscd", "/var/run/nscd")


class NamespaceError(Exception):
    """Why there is no private hosts file, in words."""


def enter(hosts: str, nsswitch: str | None) -> None:
    """Moves this (single-threaded) process into its own namespaces and binds the two files over the machine's.

    NamespaceError: the process may be half way in; it should end.
    """
    target = os.path.realpath(HOSTS)
    if not os.path.isfile(target):
        way = HOSTS if target == HOSTS else f"{HOSTS}, a link to {target},"
        raise NamespaceError(f"{way} does not exist, so that no private one can take its place")
    uid, gid = os.geteuid(), os.getegid()
    unprivileged = uid != 0
    if unprivileged:
        _unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
        # Groups may not be changed inside, or the kernel refuses the map.
        _write("/proc/self/setgroups", "deny")
        _map(inside=(0, 0), outside=(uid, gid))
    else:
        _unshare(linux.CLONE_NEWNS)
    # Slave, not private: what the machine mounts later must still appear inside.
    _mount("none", "/", None, linux.MS_REC | linux.MS_SLAVE)
    _mount(hosts, target, None, linux.MS_BIND)
    if nsswitch is not None and os.path.isfile(NSSWITCH):
        _mount(nsswitch, os.path.realpath(NSSWITCH), None, linux.MS_BIND)
    for folder in {os.path.realpath(path) for path in _NSCD if os.path.isdir(path)}:
        # Empty: glibc asks nscd's cache before any file.
        _mount("none", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, "size=4k,mode=755")
    if unprivileged:
        _unshare(linux.CLONE_NEWUSER)
        _map(inside=(uid, gid), outside=(0, 0))


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
