"""Runs a migration under a lock and a deadline, whoever else lives: a process of the keeper, stdlib only.

`python -I -S locked.py SECONDS LOCK ARGUMENT PSQL -- COMMAND...`; LOCK is `none`, `file` (ARGUMENT: the lock's path) or
`postgres` (ARGUMENT: the lock's key; psql reads `PG*` from the environment). The exit code is the command's; 124: it
had its time; 125: no lock.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys

TIMED_OUT, UNLOCKED = 124, 125
GRACE_S = 10.0
LOCK_S_MAX = 600


def main(argv: list[str]) -> int:
    seconds, lock, argument, psql, command = float(argv[1]), argv[2], argv[3], argv[4], argv[6:]
    if lock == "file":
        held = os.open(argument, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)  # until we end
    if lock != "postgres":
        return run(command, seconds)
    session = _advisory(psql, int(argument))
    try:
        return run(command, seconds)
    finally:
        session.communicate()  # it ends with its input, and the lock with it


def _advisory(psql: str, key: int) -> subprocess.Popen[str]:
    """A session of its own holds the lock for as long as it lives; another machine's waits."""
    line = [psql, "-X", "-q", "-w", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
    session = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    if _asked(session, f"SELECT pg_try_advisory_lock({key});") == "f":
        _say("another machine migrates this database; waiting for it")
        _asked(session, f"SET lock_timeout = '{LOCK_S_MAX}s'; SELECT 1;")
        if _asked(session, f"SELECT 'have' FROM pg_advisory_lock({key});") != "have":
            _say(f"the lock of another machine was not given up within {LOCK_S_MAX // 60} min")
            sys.exit(UNLOCKED)
    if session.poll() is not None:
        _say(f"psql, which holds the lock, ended with exit code {session.returncode}")
        sys.exit(UNLOCKED)
    return session


def _asked(session: subprocess.Popen[str], statement: str) -> str:
    """Its one line; empty: psql has ended."""
    assert session.stdin is not None and session.stdout is not None
    try:
        session.stdin.write(statement + "\n")
        session.stdin.flush()
    except BrokenPipeError:
        pass
    said = session.stdout.readline().strip()
    if not said:
        session.wait()
    return said


def run(command: list[str], seconds: float) -> int:
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        _say(f"cannot run {command[0]}: {error.strerror}")
        return 127
    signal.signal(signal.SIGTERM, lambda *_: _end(child, signal.SIGTERM))
    try:
        return _told(child.wait(timeout=seconds))
    except subprocess.TimeoutExpired:
        _say(f"did not end within {seconds:g} s; it is ended")
    _end(child, signal.SIGTERM)
    try:
        child.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        _end(child, signal.SIGKILL)
        child.wait()
    return TIMED_OUT


def _end(child: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        pass


def _told(status: int) -> int:
    """Killed by a signal: as a shell says it."""
    return status if status >= 0 else 128 - status


def _say(words: str) -> None:
    sys.stderr.write(f"shoal: {words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
