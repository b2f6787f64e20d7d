"""`python -I -S unparented.py PROGRAM ARGS...`: becomes a program that cannot ask to die with its parent.

Envoy with hot restart calls prctl(PR_SET_PDEATHSIG, SIGTERM): the keeper's death would end it, and every request with
it. A seccomp filter answers that one call with success and does nothing; all others pass.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_PR_SET_PDEATHSIG = 1
_MACHINES = {"x86_64": (0xC000003E, 157), "aarch64": (0xC00000B7, 167)}
"""uname's machine -> (AUDIT_ARCH, number of prctl)."""
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_ALLOW, _SUCCEED = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO with errno 0
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data


def program(machine: str) -> bytes:
    """The filter, as an array of struct sock_filter. KeyError: not a machine that Envoy's wheels are made for."""
    arch, prctl = _MACHINES[machine]
    steps = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 0, 5, arch),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_EQUAL, 0, 3, prctl),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_JUMP_EQUAL, 0, 1, _PR_SET_PDEATHSIG),
        (_RETURN, 0, 0, _SUCCEED),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def ignore_death_of_parent() -> None:
    """OSError or KeyError: this kernel or machine has no such filters."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program(os.uname().machine))
    header = struct.pack("HxxxxxxP", len(code.raw) // 8, ctypes.addressof(code))
    one, zero = ctypes.c_ulong(1), ctypes.c_ulong(0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, one, zero, zero, zero) or libc.prctl(
        _PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.c_char_p(header), zero, zero
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main() -> None:
    try:
        ignore_death_of_parent()
    except (OSError, KeyError) as error:
        # Worse, not wrong: it serves, and ends should the keeper be killed.
        sys.stderr.write(f"shoal: the proxy will not outlive its keeper: {error}\n")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
