"""A program that asks to die with its parent, and is not heard."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shoal.engines.local.keeper import unparented

pytestmark = pytest.mark.integration

ASKS = """
import ctypes, signal
libc = ctypes.CDLL(None, use_errno=True)
answer = libc.prctl(1, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0)
found = ctypes.c_int(-1)
libc.prctl(2, ctypes.byref(found), 0, 0, 0)
print(answer, found.value)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize(("wrapped", "signal_kept"), [(False, 15), (True, 0)])
def test_a_program_is_told_that_its_death_signal_is_set_and_it_is_not(wrapped: bool, signal_kept: int) -> None:
    prefix = [sys.executable, "-I", "-S", unparented.__file__] if wrapped else []
    done = subprocess.run([*prefix, sys.executable, "-c", ASKS], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["0", str(signal_kept)]
    assert done.stderr == ""
