"""Runs a command that may make no namespaces, as Docker's default seccomp profile has it:

    python refusing.py ARGV...

A filter of system calls that this process takes on and all of its descendants inherit; it needs no rights.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM
_CLONE_NEW = 0x10000000 | 0x00020000 | 0x40000000  # user, mount, network
NUMBERS = {
    # mount, unshare, setns; clone
    "x86_64": (0xC000003E, (165, 272, 308), 56),
    "aarch64": (0xC00000B7, (40, 97, 268), 220),
}


def refuse_namespaces() -> None:
    """OSError, KeyError: not on this machine."""
    architecture, refused, clone = NUMBERS[platform.machine()]
    # Offsets in struct seccomp_data: the call's number 0, the architecture 4, the first argument 16.
    program = [(_LOAD, 0, 0, 4), (_EQUAL, 0, len(refused) + 4, architecture), (_LOAD, 0, 0, 0)]
    program += [(_EQUAL, len(refused) + 3 - i, 0, number) for i, number in enumerate(refused)]
    program += [(_EQUAL, 0, 2, clone), (_LOAD, 0, 0, 16), (_ANY_BIT, 1, 0, _CLONE_NEW)]
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    pointer = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, pointer, 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "no filter of system calls can be set")


if __name__ == "__main__":
    refuse_namespaces()
    os.execvp(sys.argv[1], sys.argv[1:])
