"""The few calls of Linux that Python's standard library does not have."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_RDONLY, MS_REMOUNT, MS_MOVE = 1, 32, 8192
MS_BIND, MS_REC, MS_SLAVE = 4096, 16384, 1 << 19
_MNT_DETACH = 2
F_GETPIPE_SZ = 1032
_PR_SET_CHILD_SUBREAPER = 36
_SPLICE_F_NONBLOCK = 2
_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes); Linux 6.15 tells exit codes by it
_PIDFD_INFO_EXIT = 1 << 3

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def unshare(flags: int) -> None:
    """OSError: this kernel, container or user may not."""
    _checked(_libc.unshare(flags))


def setns(fd: int, kind: int) -> None:
    """Enters the namespace that `fd` stands for. OSError: it may not, or that is of another kind."""
    _checked(_libc.setns(fd, kind))


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """OSError, with the target's name."""
    encoded = None if kind is None else kind.encode()
    pointer = ctypes.c_ulong(flags)
    _checked(_libc.mount(os.fsencode(source), os.fsencode(target), encoded, pointer, data.encode() or None), target)


def unmount(target: str) -> None:
    """With all below it, at once for whoever looks; what is open stays. OSError, with the target's name."""
    _checked(_libc.umount2(os.fsencode(target), _MNT_DETACH), target)


def pivot_root(new: str, old: str) -> None:
    """`new`, a mount, becomes the root; the old one is at `old` then. OSError: the root is no mount (a chroot, an
    initramfs), or the C library does not have the call."""
    if not hasattr(_libc, "pivot_root"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "/")
    _checked(_libc.pivot_root(os.fsencode(new), os.fsencode(old)), "/")


def become_subreaper() -> None:
    """Orphans among our descendants become our children, so that we can end and reap them."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0))


def tee(source: int, target: int, size: int) -> int:
    """Copies what is in one pipe to another and leaves it there. 0: at its end. BlockingIOError: nothing there now.
    Other OSErrors: not on this machine."""
    if not hasattr(_libc, "tee"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return _checked(_libc.tee(source, target, ctypes.c_size_t(size), _SPLICE_F_NONBLOCK))


def exit_code_of(pidfd: int) -> int | None:
    """The exit code (negative: a signal) of an ended process that was not our child. None: this kernel cannot say."""
    info = bytearray(64)
    struct.pack_into("=Q", info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    if not struct.unpack_from("=Q", info, 0)[0] & _PIDFD_INFO_EXIT:
        return None
    return os.waitstatus_to_exitcode(struct.unpack_from("=i", info, 60)[0])


def open_pidfd(pid: int) -> int | None:
    """ProcessLookupError: no such process. None: pidfds are not to be had here (before Linux 5.3, some containers)."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):
        return None


def send_signal(pid: int, pidfd: int | None, number: int) -> None:
    """ProcessLookupError: it ended. Without a pidfd only safe for a child that was not reaped."""
    if pidfd is None:
        os.kill(pid, number)
    else:
        signal.pidfd_send_signal(pidfd, number)
