"""Runs a migration under a lock and a deadline, whoever else lives: a process of the keeper, stdlib only.

`python -I -S locked.py SECONDS RESULT LOCK ARGUMENT PSQL -- COMMAND...`; RESULT: the path of a file that gets the exit
code; LOCK is `none`, `file` (ARGUMENT: the lock's path) or `postgres` (ARGUMENT: the lock's key; psql reads `PG*` from
the environment). The exit code is the command's; 124: it had its time; 125: no lock.

The command inherits what holds the lock: should we be killed, it is held for as long as the command lives.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time

TIMED_OUT, UNLOCKED = 124, 125
GRACE_S = 10.0
LOCK_S_MAX = 600
_LOOK_S = 0.1


def main(argv: list[str]) -> int:
    seconds, result, lock, argument, psql, command = float(argv[1]), argv[2], argv[3], argv[4], argv[5], argv[7:]
    session: subprocess.Popen[str] | None = None
    held: tuple[int, ...] = ()
    try:
        if lock == "file":
            held = (_file(argument),)
        elif lock == "postgres":
            session = _advisory(psql, int(argument))
            assert session.stdin is not None
            held = (session.stdin.fileno(),)  # psql ends, and the lock with it, when nobody has this any more
        code = run(command, seconds, held, session)
    except UnlockedError as error:
        _say(str(error))
        code = UNLOCKED
    _write(result, code)
    if session is not None:
        _close(session)
    return code


class UnlockedError(Exception):
    """In words."""


def _write(path: str, code: int) -> None:
    """For who finds us ended, when nobody saw it."""
    try:
        with open(path + ".tmp", "w", encoding="ascii") as file:  # noqa: PTH123  few imports
            file.write(str(code))
        os.rename(path + ".tmp", path)  # noqa: PTH104
    except OSError as error:
        _say(f"{path} cannot be written: {error.strerror}")


def _close(session: subprocess.Popen[str]) -> None:
    assert session.stdin is not None
    try:
        session.stdin.close()
        session.wait(timeout=_LOOK_S * 20)
    except (OSError, subprocess.TimeoutExpired):
        session.kill()  # something that the migration left behind holds its input open
        session.wait()


def _file(path: str) -> int:
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + LOCK_S_MAX
    told = False
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return held
        except BlockingIOError:
            if not told:
                _say(f"another migration holds {path}; waiting for it")
            told = True
            if time.monotonic() > until:
                raise UnlockedError(f"{path} was not given up within {LOCK_S_MAX // 60} min") from None
            time.sleep(_LOOK_S)


def _advisory(psql: str, key: int) -> subprocess.Popen[str]:
    """A session of its own holds the lock for as long as it lives; another machine's waits."""
    line = [psql, "-X", "-q", "-w", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
    session = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    if _asked(session, f"SELECT pg_try_advisory_lock({key});") == "f":
        _say("another machine migrates this database; waiting for it")
        _asked(session, f"SET lock_timeout = '{LOCK_S_MAX}s'; SELECT 1;")
        if _asked(session, f"SELECT 'have' FROM pg_advisory_lock({key});") != "have":
            raise UnlockedError(f"the lock of another machine was not given up within {LOCK_S_MAX // 60} min")
    if session.poll() is not None:
        raise UnlockedError(f"psql, which holds the lock, ended with exit code {session.returncode}")
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


def run(command: list[str], seconds: float, held: tuple[int, ...], session: subprocess.Popen[str] | None) -> int:
    """`held`: descriptors that the command has open too. UnlockedError: `session`, which holds the lock, ended before
    the command; which has been ended then."""
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=held)
    except OSError as error:
        _say(f"cannot run {command[0]}: {error.strerror}")
        return 127
    signal.signal(signal.SIGTERM, lambda *_: _end(child, signal.SIGTERM))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            return _told(child.wait(timeout=_LOOK_S))
        except subprocess.TimeoutExpired:
            pass
        if session is not None and session.poll() is not None:
            _end_for_good(child)
            raise UnlockedError("the session that held the lock ended, so the migration was ended too")
    _say(f"did not end within {seconds:g} s; it is ended")
    _end_for_good(child)
    return TIMED_OUT


def _end_for_good(child: subprocess.Popen[bytes]) -> None:
    _end(child, signal.SIGTERM)
    try:
        child.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        _end(child, signal.SIGKILL)
        child.wait()


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
