"""Who gets SIGTERM (or what `stop_signal:` says) when a replica is to stop."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from shoal.engines.local.ownership import session_members


def busy_shell_children(leader: int) -> list[int]:
    """The programs that a `sh -c` leader waits for; empty when the leader is the program itself.

    SIGTERM goes to the leader alone, as in a container: a server knows its workers and when to stop them; a signal to
    the whole group would end workers in the middle of requests that their master still counts on. A shell is the
    exception: it would die at once, leave its command behind unsupervised, and call that the end. So its commands get
    the signal in its place, and the shell ends after them with their status. (A shell of which only one simple command
    is asked has become that command.)
    """
    if not _is_shell(leader):
        return []
    return [pid for pid in session_members(leader) if _parent(pid) == leader]


def terminate(pids: list[int], session: int, stop_signal: signal.Signals) -> None:
    """The signal to these processes, if they are still of that session."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if os.getsid(pid) == session:  # after the handle is open, the answer is about what it stands for
                signal.pidfd_send_signal(handle, stop_signal)
        except OSError:
            pass
        finally:
            os.close(handle)


def _is_shell(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").samefile("/bin/sh")
    except OSError:
        return False


def is_stopped(pid: int) -> bool:
    """Whether somebody sent it SIGSTOP: it handles no signal until it is continued, and answers nobody. Not one that a
    debugger holds."""
    return _stat(pid)[:1] == ["T"]


def _parent(pid: int) -> int | None:
    """None: no such process, or one that has ended and waits to be reaped."""
    fields = _stat(pid)
    return None if len(fields) < 2 or fields[0] in ("Z", "X") else int(fields[1])


def _stat(pid: int) -> list[str]:
    """Of /proc/<pid>/stat, from the state on; empty: no such process, or no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []
